"""redis-py reads its own version once: it reads the files of its package for each new connection.

This takes half of the time of a connection, and tests make thousands.
"""

from __future__ import annotations

from functools import cache

import redis.utils

redis.utils.get_lib_version = cache(redis.utils.get_lib_version)
redis.utils.get_lib_version()
