"""Former name of `streamclust.store.reply.native`. It will be removed after the next release."""

import sys

from streamclust.store.reply import native

sys.modules[__name__] = native
