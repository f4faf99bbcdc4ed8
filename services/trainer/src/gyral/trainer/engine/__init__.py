"""Trains one model in a process of its own; only the modules of this process import heavy libraries."""
