"""What Gyral's services say to each other: events, topics and declared specs, and nothing that runs."""
