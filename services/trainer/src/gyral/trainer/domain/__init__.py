"""What may run, what state a run is in, and which rows it learns from and is judged on."""
