"""What holds for all tests."""

import os

# Before NumPy is there: matrix products on one thread. More of them spin for a while after each,
# which takes the CPU from the tests beside them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
