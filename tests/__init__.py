"""Tests mirror the folders of ``recsys``; what they share stands in ``tests.support``."""

import os

# Before any library is loaded: several workers share the cores, and threads of one would wait for those of another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
