"""Judges every record: good ones reach the lake once, bad ones the quarantine with a reason."""
