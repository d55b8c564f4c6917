"""Former name of `streamclust.formats.model`. It will be removed after the next release."""

import sys

from streamclust.formats import model

sys.modules[__name__] = model
