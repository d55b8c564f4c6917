"""Former name of `streamclust.formats.layout`. It will be removed after the next release."""

import sys

from streamclust.formats import layout

sys.modules[__name__] = layout
