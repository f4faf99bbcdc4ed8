"""What the gateway decides: which version answers, and how much one request may hold."""
