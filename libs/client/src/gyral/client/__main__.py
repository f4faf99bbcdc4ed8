"""The `gyral` command."""

import os
import sys

# Before any numerical import, or the libraries' threads starve each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from gyral.client.commandline import run


def main() -> int:
    """Run one command and return its exit status."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
