"""Former name of `streamclust.formats.points`. It will be removed after the next release."""

import sys

from streamclust.formats import points

sys.modules[__name__] = points
