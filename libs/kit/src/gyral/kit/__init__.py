"""The chassis every Gyral service stands on: delivery, storage, telemetry and health."""
