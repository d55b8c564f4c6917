"""A Dask cluster whose workers or scheduler can't be reached for some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cut_network
from tests.support.cut_network import PARTS, unshared, why_not

ROOT = Path(__file__).parents[2]


def test_a_fold_during_a_cut_has_the_bits_of_inline_and_workers_are_used_again(
    tmp_path: Path,
) -> None:
    pytest.importorskip("distributed", reason="the extra dask isn't installed")
    if reason := why_not():
        pytest.skip(reason)
    words = [*unshared(), sys.executable, "-m", cut_network.__name__, str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    happened = json.loads(ended.stdout)
    assert list(happened) == ["workers", "scheduler"]
    for cut in happened.values():
        assert cut["same_bits"]
        assert cut["workers"] + cut["here"] == PARTS  # nothing twice
        assert cut["workers"]
        assert cut["here"]
        assert cut["used_again"]
