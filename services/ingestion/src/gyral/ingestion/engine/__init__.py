"""Turns request bodies into rows, and rows into Kafka records."""
