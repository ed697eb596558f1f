"""One thread for each process of the tests, and for those that they start."""

import os

# Read when the libraries are loaded. Workers of pytest-xdist share the cores.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
