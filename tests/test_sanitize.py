"""The small version of ``make sanitize``: one target, a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamclust import kernels
from tests import sanitize

pytestmark = pytest.mark.skipif(bool(sanitize.why_not()), reason=sanitize.why_not())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("sanitize") / "native.so"
    sanitize.build(path, kernels.available()[1:2], quick=True)
    return path


def test_native_code_stays_within_its_arrays_whatever_it_is_given(library: Path) -> None:
    command = ["-m", "tests.fuzz.native", "--seconds", "1", "--seed", "1"]
    done = sanitize.run(library, command, capture=True)
    assert done.returncode == 0, done.stderr[-4000:]
    tally = json.loads(done.stdout)
    assert tally["whole"] > 0
    assert tally["coded"] > 0
    assert tally["calls"] > 0


def test_one_byte_beyond_an_array_is_found(library: Path) -> None:
    # Given an entry whose row says that it has more bytes than are there
    lie = """
import numpy as np
import tests
from streamclust.store.reply import native as wire
data = np.frombuffer(b"$3\\r\\nabc", np.uint8).copy()
wire.texts(np.array([[1, 0, data.ctypes.data, 100, 1]]))
"""
    # When it is read Then the process ends
    done = sanitize.run(library, ["-c", lie], capture=True)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
