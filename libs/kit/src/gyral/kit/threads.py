"""The guard against numerical libraries that start a thread per core and starve each other."""

import os
import sys


def require_single_threaded() -> None:
    """Stop the process with one line when OMP_NUM_THREADS is unset.

    Raises:
        SystemExit: it is missing; numerical code was measured up to 50 times slower then.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        sys.exit(
            "OMP_NUM_THREADS: expected a number, usually 1; found it unset."
            " Export it before the process starts."
        )
