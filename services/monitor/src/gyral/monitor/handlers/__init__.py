"""What the monitor does when champions change and when rows and markers arrive."""
