"""What computes for the gateway: runtimes behind sockets, asked in batches."""
