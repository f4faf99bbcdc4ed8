"""What can be asked of validation over HTTP."""
