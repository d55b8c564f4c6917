"""The tests; `TEST_LIBRARY` names another native library than the installed one for them."""

import os
from pathlib import Path

# Before NumPy is imported: the tests run side by side, and threads in BLAS would only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from streamclust.kernels import native

if "TEST_LIBRARY" in os.environ:
    native.LIBRARY = Path(os.environ["TEST_LIBRARY"])
