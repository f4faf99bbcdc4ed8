"""What the deployer makes: Bentos, and the runtimes that hold versions."""
