"""The runtime's control side: what an operator loads, unloads and asks."""
