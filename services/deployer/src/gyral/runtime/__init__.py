"""Hosts the models' bytes in a supervised process and computes what the gateway asks."""
