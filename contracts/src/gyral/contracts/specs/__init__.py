"""What a user declares: streams and models."""
