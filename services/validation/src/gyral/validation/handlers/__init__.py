"""Reacts to batches of records and predictions, and to wishes to judge records again."""
