"""Takes records in at the door: checks who sends what, and answers only what Kafka holds."""
