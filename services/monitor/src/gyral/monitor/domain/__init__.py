"""What the monitor decides, from values alone."""
