"""The monitor's work on bytes and arrays: reading the logs, counting into bins."""
