"""Workers that are killed, again and again: ``make chaos``."""

import os

# Before NumPy is imported: workers are forked, and that goes well only without other threads.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
