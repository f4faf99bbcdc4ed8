"""What must hold before any test module is imported, and the fixtures all tests share."""

import os

# Before numpy, scikit-learn or torch start a thread per core and starve the stack beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["gyral.testkit.fixtures"]
