"""Watches data, predictions and quality, and asks for a training when it is time."""
