"""What ingestion must not forget: requests by their key, and rows taken while Kafka is away."""
