"""Answers predictions: checks who asks, chooses the version and logs what was said."""
