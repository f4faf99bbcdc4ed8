"""Remembers what was seen, what was refused, and how far each stream has come."""
