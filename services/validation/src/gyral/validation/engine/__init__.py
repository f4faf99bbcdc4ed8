"""Decodes rows in bulk, keeps the lake, and writes to the label topic."""
