"""Runs the graph of docker-compose.yml as plain processes, for machines without Docker."""
