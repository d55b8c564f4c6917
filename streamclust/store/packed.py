"""Former name of `streamclust.store.reply.packed`. It will be removed after the next release."""

import sys

from streamclust.store.reply import packed

sys.modules[__name__] = packed
