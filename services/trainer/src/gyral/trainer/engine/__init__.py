"""Trains one model in a process of its own, where alone heavy libraries are imported."""
