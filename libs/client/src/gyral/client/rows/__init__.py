"""Rows of files and tables: read in streams, typed as declared, made into bodies."""
