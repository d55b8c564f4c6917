"""The tests; `TEST_LIBRARY` names another native library than the installed one for them."""

import os
from pathlib import Path

from streamclust.kernels import native

if "TEST_LIBRARY" in os.environ:
    native.LIBRARY = Path(os.environ["TEST_LIBRARY"])
