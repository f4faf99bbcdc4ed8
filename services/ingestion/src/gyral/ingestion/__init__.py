"""Takes records in at the door: checks who sends and what, and answers only what Kafka holds."""
