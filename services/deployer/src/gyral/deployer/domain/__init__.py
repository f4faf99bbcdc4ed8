"""What the deployer decides: how a version takes over, step by step, and when it is taken back."""
