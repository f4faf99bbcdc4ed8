"""What the registry decides: verdicts, bootstraps, keys, and the audit chain."""
