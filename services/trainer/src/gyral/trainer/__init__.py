"""Admits training requests, runs them in leased processes and reports what came out."""
