"""What the process that forks commands does after its imports, so that a command starts faster."""

from __future__ import annotations

import gc
from multiprocessing import spawn

# A forked process would run the script of the tests again, which is pytest; no command needs it.
spawn._fixup_main_from_path = lambda _: None  # type: ignore[attr-defined]
spawn._fixup_main_from_name = lambda _: None  # type: ignore[attr-defined]

# The collector neither visits nor copies what each command shares with this process.
gc.collect()
gc.freeze()
