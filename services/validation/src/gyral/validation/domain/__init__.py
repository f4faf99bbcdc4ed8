"""Decides what a row's refusal is called, what was seen before, and how far time has come."""
