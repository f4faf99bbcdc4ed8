"""The chassis every service stands on, so that a service holds only what is its own."""
