"""Streams with bad entries among the good ones, through detection, decoding and batching.

What has to come out is known in two ways. Each entry that was not touched must give its points, to
the bit, whatever stands next to it. And the stream in its chunks, which are read at once where they
are perfect, must give what the careful way makes of its entries one by one: points, dead letters
with place and reason, nothing twice and nothing missing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamclust.arrays import MAX_MAGNITUDE, Points
from streamclust.errors import DataError
from streamclust.formats.codecs import CODECS, json_array, json_text, raw
from streamclust.formats.dead import DeadLetter
from streamclust.formats.layout import DEFAULT_FIELD, ENTRY_FORMATS, EntryFormat, Layout
from streamclust.formats.points import (
    PointsFormat,
    _decode_carefully,
    decode,
    detect_first,
    encode,
)
from streamclust.store.reply import native as wire
from streamclust.store.reply.entries import Entries, from_reply
from streamclust.store.stream.batches import Batch, Batcher
from tests.fuzz.mutate import HOSTILE, damage
from tests.support.replies import packed

_CHUNK = 200
_STREAM = "s"


@dataclass
class Tally:
    """What was read, and what became of it."""

    entries: int = 0
    damaged: int = 0
    learned: int = 0
    dead: int = 0
    compared: int = 0
    """Entries that were compared with the points that they were made of."""


@dataclass(frozen=True)
class _Case:
    """A stretch of a stream: its entries, and the points of those that were not touched."""

    spec: PointsFormat
    layout: Layout
    items: Entries
    sources: list[NDArray[np.float64] | None]


def fuzz_points(entries: int, seed: int) -> Iterator[Tally]:
    """Try so many entries; yield the tally now and then.

    Raises
    ------
    AssertionError
        With the seed and number of the case that went wrong.
    """
    tally, number = Tally(), 0
    while tally.entries < entries:
        case = _case(random.Random(f"{seed} points {number}"), number)  # noqa: S311
        try:
            _check(case, random.Random(f"{seed} cut {number}"), tally)  # noqa: S311
        except Exception as error:
            raise AssertionError(f"points, seed {seed}, case {number}: {error!r}") from error
        number += 1
        yield tally


def _case(rng: random.Random, number: int) -> _Case:
    form = ENTRY_FORMATS[number % 4]
    D = rng.choice((1, 2, 3, 7))
    named = form == "fields" or rng.random() < 0.3
    layout = Layout(
        form,
        None if form == "fields" else DEFAULT_FIELD[form],
        "w" if rng.random() < 0.4 else None,
        tuple(f"x{d}" for d in range(D)) if named else (),
        D,
        strict=form == "fields" and rng.random() < 0.7,
        missing=rng.choice(("reject", "learn")),
    )
    items, sources = _entries(layout, rng)
    return _Case(_spec(layout, rng), layout, items, sources)


def _spec(layout: Layout, rng: random.Random) -> PointsFormat:
    """Return what a config might say of it: as little as it takes, or more."""
    told: EntryFormat | Any = layout.format if rng.random() < 0.5 else "auto"
    features = () if layout.strict or rng.random() < 0.3 else layout.features
    n_features = layout.n_features if rng.random() < 0.5 else None
    missing = layout.missing
    return PointsFormat(told, None, layout.weight_field, features, n_features, missing=missing)


def _entries(
    layout: Layout, rng: random.Random
) -> tuple[Entries, list[NDArray[np.float64] | None]]:
    block = 1 if layout.format == "fields" else rng.choice((1, 1, 3, 10))
    n = _CHUNK * block
    numbers = np.random.default_rng(rng.randrange(2**32))
    X = numbers.normal(scale=100.0, size=(n, layout.n_features)).astype(np.float32).astype(float)
    w = None if layout.weight_field is None else numbers.integers(0, 5, n).astype(float)
    share = rng.choice((0.0, 0.01, 0.03, 0.03, 0.5))
    poisoned = numbers.random(n) < share / 2.0
    X[poisoned, rng.randrange(layout.n_features)] = rng.choice((np.nan, -np.inf, 1e30))
    items: list[tuple[bytes, list[bytes]]] = []
    sources: list[NDArray[np.float64] | None] = []
    for number, flat in enumerate(encode(X, layout, w, block)):
        rows = slice(number * block, (number + 1) * block)
        touched = rng.random() < share
        items.append((b"%d-0" % (number + 1), _damaged(flat, rng) if touched else flat))
        sources.append(None if touched or poisoned[rows].any() else X[rows])
    found = packed(items) if wire.available() and rng.random() < 0.8 else items
    return from_reply(_STREAM, found, None, None), sources


def _damaged(flat: list[bytes], rng: random.Random) -> list[bytes]:
    """Return an entry with a wrong value, name or structure; it stays one that XADD would take."""
    changed, at = list(flat), 2 * rng.randrange(len(flat) // 2)
    way = rng.randrange(8)
    if way < 4:
        changed[at + 1] = damage(changed[at + 1], rng)
    elif way == 4:
        changed[at] = rng.choice((damage(changed[at], rng), b"w", b"d", b"x0", b"json", b"f8"))
    elif way == 5:
        changed += [rng.choice((changed[at], b"extra", b"d", b"\xff")), rng.choice(HOSTILE)]
    elif way == 6 and len(changed) > 2:
        del changed[at : at + 2]
    else:
        changed = [changed[at], rng.choice(HOSTILE)]
    return changed


def _check(case: _Case, rng: random.Random, tally: Tally) -> None:
    batcher = Batcher(case.spec, None, {_STREAM: "0-0"}, rng.choice((1, 7, 64, 1000)))
    with _pieces_of(rng.choice((None, None, 50))):
        got = list(_batches(batcher, case.items, rng))
    for batch in got:
        _check_batch(batch)
    layout = got[-1].layout
    X, dead = _one_by_one(case, layout)
    found = np.concatenate([batch.X.reshape(len(batch.X), X.shape[1]) for batch in got])
    assert found.astype(np.float64).tobytes() == X.tobytes(), "other points than one by one"
    assert [letter for batch in got for letter in batch.dead] == dead, "other dead letters"
    assert got[-1].position == {_STREAM: f"{len(case.items)}-0"}
    if layout == case.layout:
        tally.compared += _compare(case, layout)
    tally.entries += len(case.items)
    tally.damaged += sum(source is None for source in case.sources)
    tally.learned += len(X)
    tally.dead += len(dead)


@contextmanager
def _pieces_of(size: int | None) -> Iterator[None]:
    """Judge blocks in pieces of that size, as large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        if size is not None:
            patch.setattr(raw, "_PIECE", size)
            patch.setattr(json_array, "_PIECE", size)
            patch.setattr(json_text, "_AT_ONCE", size)
        yield


def _batches(batcher: Batcher, items: Entries, rng: random.Random) -> Iterator[Batch]:
    """Feed the entries in reads of any size."""
    start = 0
    while start < len(items):
        stop = start + rng.choice((1, 16, 100, 1000))
        yield from batcher.feed(items[start:stop])
        start = stop
    yield batcher.flush()


def _check_batch(batch: Batch) -> None:
    gaps = np.isnan(batch.X)
    if batch.layout is None or batch.layout.missing == "reject":
        assert not gaps.any(), "a missing value that isn't learned"
    assert not (len(gaps) and gaps.all(axis=1).any()), "a point without any value"
    most = float(np.abs(batch.X[~gaps]).max(initial=0.0))
    assert most <= MAX_MAGNITUDE, "a point that can't be learned"
    single = batch.layout is not None and batch.layout.format == "float32"
    assert batch.X.dtype == (np.float32 if single else np.float64)
    if batch.w is not None:
        assert batch.w.shape == (len(batch.X),)
        assert 0.0 <= batch.w.min(initial=0.0) <= batch.w.max(initial=0.0) <= MAX_MAGNITUDE
    for letter in batch.dead:
        assert letter.reason
        assert "\n" not in letter.reason
        assert len(letter.reason) <= 300, "a reason too long to be read"
        assert len(letter.data) <= 1024, "an excerpt too long to be kept"


def _one_by_one(case: _Case, layout: Layout | None) -> tuple[NDArray[np.float64], list[DeadLetter]]:
    """Return what the entries give when each is read alone, and see that each is accounted for."""
    entries = list(case.items.numbered())
    found, early = detect_first(entries, case.spec)
    assert found == layout
    rows: list[Points] = [np.empty((0, 1 if layout is None else layout.n_features))]
    dead = list(early)
    for entry in entries[len(early) :]:
        assert layout is not None
        decoded = _decode_carefully([entry], layout)
        rows.append(decoded.X)
        dead += decoded.dead
        places = [point.index for point in decoded.dead]
        size = _size(entry[1], layout)
        assert len(decoded.X) + len(places) == (size or 1), "learned + dead is not what was read"
        assert places == [-1] * (not size) or set(places) <= set(range(size))
        assert sorted(set(places)) == places
    letters = [
        DeadLetter(_STREAM, f"{point.entry_id + 1}-0", point.index, point.reason, point.data)
        for point in dead
    ]
    return np.concatenate(rows, dtype=np.float64), letters


def _size(flat: Sequence[bytes], layout: Layout) -> int:
    """Return the number of points in an entry, 0 for one that makes no sense as a whole."""
    try:
        return len(CODECS[layout.format].split(flat, layout))
    except DataError:
        return 0


def _compare(case: _Case, layout: Layout) -> int:
    """See that each entry that was not touched gives its points; return how many those are."""
    whole = decode(list(case.items.numbered()), layout)
    edges = np.concatenate([[0], np.cumsum(whole.counts)])
    untouched = [(n, source) for n, source in enumerate(case.sources) if source is not None]
    for number, source in untouched:
        assert whole.X[edges[number] : edges[number + 1]].tobytes() == source.tobytes()
    return len(untouched)
