"""Benchmarks, on one thread as NumPy's loops are, unless INSTEP_NUM_THREADS says otherwise."""

import os

os.environ.setdefault("INSTEP_NUM_THREADS", "1")
