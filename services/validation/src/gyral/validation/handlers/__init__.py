"""Reacts to batches of records and predictions, and to people who have refused records judged again."""
