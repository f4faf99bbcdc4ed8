"""What Gyral's services say to each other.

Events, topics and declared specs, and nothing that runs.
"""
