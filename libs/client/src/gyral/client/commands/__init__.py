"""What the commands do, a module a concern; imported only when one is run."""
