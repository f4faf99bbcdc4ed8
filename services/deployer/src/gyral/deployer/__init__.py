"""Gives an approved version its traffic step by step, and takes it back when it disappoints."""
