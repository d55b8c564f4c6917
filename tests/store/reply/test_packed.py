"""Points of packed entries: zero vectors are refused where only directions count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.points import decode_flats, encode
from streamclust.models.directions import ZERO
from streamclust.store.reply.entries import from_reply
from streamclust.store.stream.batches import Batcher
from tests.support.replies import needs_native, packed

pytestmark = needs_native

LAYOUTS = {
    "fields": Layout("fields", None, None, ("x", "y"), 2, strict=True, directions=True),
    "json": Layout("json", "json", "w", (), 2, strict=False, directions=True),
    "float32": Layout("float32", "f4", None, (), 2, strict=False, directions=True),
    "float64": Layout("float64", "f8", "w", (), 2, strict=False, directions=True),
}


def entries_of(layout: Layout, block: int, zeros: list[int]) -> Any:
    """Return 60 points in entries, of which these are zero vectors."""
    X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    X[zeros] = 0.0
    w = None if layout.weight_field is None else np.ones(60)
    flats = encode(X, layout, w, block)
    return [(b"%d-0" % n, flat) for n, flat in enumerate(flats, 1)]


@pytest.mark.parametrize("zeros", [[0], [59], [7, 8, 30], list(range(60)), []])
@pytest.mark.parametrize(
    ("name", "block"), [("fields", 1), ("json", 1), ("json", 7), ("float32", 7), ("float64", 60)]
)
def test_native_code_and_python_find_the_same_zero_vectors(
    name: str, block: int, zeros: list[int]
) -> None:
    layout = LAYOUTS[name]
    entries = entries_of(layout, block, zeros)
    found = packed(entries).decode(layout)
    wanted = decode_flats([flat for _, flat in entries], layout)
    assert found.X.tolist() == wanted.X.tolist()
    assert found.counts.tolist() == wanted.counts.tolist()
    assert found.dead.places().tolist() == wanted.dead.places().tolist()
    assert [each.reason for each in found.dead] == [ZERO] * len(zeros)
    assert len(found.X) == 60 - len(zeros)


def test_a_batch_has_the_good_points_whatever_its_buffer_has() -> None:
    # A zero vector, which native code decodes, and a point that only Python decodes
    layout = LAYOUTS["float64"]
    X = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [5.0, 6.0]])
    flats = list(encode(X, layout, np.ones(4)))
    flats[3] = [b"w", flats[3][3], b"f8", flats[3][1], b"f8", flats[3][1]]  # a field twice
    flats.append([*flats[0], b"more", b"1"])
    entries = from_reply("s", packed([(b"%d-0" % n, f) for n, f in enumerate(flats, 1)]), 5, None)
    spec = PointsFormat(weight_field="w", directions=True)
    batcher = Batcher(spec, layout, {"s": "0-0"}, 100)
    assert not list(batcher.feed(entries))
    batch = batcher.flush()
    assert batch.X.tolist() == [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]
    assert batch.refused == 2
