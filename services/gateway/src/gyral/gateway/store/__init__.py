"""What the gateway must not forget: answered predictions on their way to Kafka."""
