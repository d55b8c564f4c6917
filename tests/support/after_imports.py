"""What the process that forks commands does after its imports, so that a command starts faster."""

from __future__ import annotations

import gc
from functools import cache
from multiprocessing import spawn

import redis.utils

# A forked process would run the script of the tests again, which is pytest; no command needs it.
spawn._fixup_main_from_path = lambda _: None  # type: ignore[attr-defined]
spawn._fixup_main_from_name = lambda _: None  # type: ignore[attr-defined]

# redis-py reads its own version from the files of its package for each new connection.
redis.utils.get_lib_version = cache(redis.utils.get_lib_version)
redis.utils.get_lib_version()

# The collector neither visits nor copies what each command shares with this process.
gc.collect()
gc.freeze()
