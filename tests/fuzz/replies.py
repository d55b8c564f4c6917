"""Replies that no server sends, through native code: what is found in them, points, codes.

Each reply is read from memory that ends where the reply ends, so that a build with
AddressSanitizer sees each byte too many. What is found is compared with hiredis and with Python.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from streamclust.formats.codes import encode_points
from streamclust.formats.layout import DEFAULT_FIELD, ENTRY_FORMATS, Layout
from streamclust.formats.points import decode_flats
from streamclust.models.quantize import Codes
from streamclust.store.reply import native as wire
from streamclust.store.reply.packed import Packed
from streamclust.store.reply.packed_codes import as_rows, pack_points
from tests.fuzz.mutate import HOSTILE, damage
from tests.support.replies import (
    Entry,
    HiredisConnection,
    NativeConnection,
    outcome,
    to_lists,
    to_resp,
)

_SIZES = (
    *(b"-1", b"-0", b"-5", b"", b"0", b"1", b"2", b"3", b"7", b"01", b"+1", b"1.0", b" 1", b"x"),
    *(b"2147483648", b"4294967296", b"9223372036854775807", b"9223372036854775808"),
    *(b"999999999999999999", b"1000000000000000000", b"99999999999999999999", b"?"),
)
_OTHERS = (
    *(b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(1\r\n", b"%1\r\n", b"~1\r\n", b">1\r\n", b"|1\r\n"),
    *(b"=5\r\ntxt:1\r\n", b"!3\r\nERR\r\n", b"$?\r\n", b"*?\r\n", b".\r\n", b"-ERR x\r\n"),
    *(b"*-1\r\n", b"$-1\r\n", b":1\r\n", b"+\r\n", b"\n", b"\r", b"*1\r\n" * 50),
)
_PARTS = (0, 1, 9, 10, 2**32, 2**63, 2**64 - 1, 2**64)
_NAMES = (b"x0", b"x1", b"w", b"d", b"json", b"f4", b"f8", b"label", b"", b"\r\n", b"l" * 300)
_LABELS = frozenset((b"label", b"l" * 300, b"\r\n"))
_VERSIONS = (0, 1, -7, 2**64 - 1, 10**40, 10**2000)
_DISTANCES = (0.0, -0.0, 1e-5, 1e-4, 0.1, 1.0, 123456.789, 1e15, 1e16, 1e22, 5e-324, 1.7e308)
_ODD_DISTANCES = (-1.5, -1e-300, np.nan, np.inf, -np.inf)
_MAX_CUTS = 300
_ANNOUNCED = re.compile(rb"\*\d{6}")
"""An array so large that hiredis would take its time to make room for it."""


def fuzz_replies(count: int, seed: int) -> Iterator[dict[str, int]]:
    """Try so many replies; yield how many were whole, and how many entries these held.

    Raises
    ------
    AssertionError
        With the seed and number of the one that went wrong.
    """
    tally = {"replies": 0, "whole": 0, "entries": 0, "coded": 0}
    for number in range(count):
        rng = random.Random(f"{seed} reply {number}")  # noqa: S311
        try:
            _try(_reply(rng), rng, tally)
        except Exception as error:
            raise AssertionError(f"replies, seed {seed}, number {number}: {error!r}") from error
        tally["replies"] += 1
        yield tally


def _reply(rng: random.Random) -> bytes:
    """Return a reply of a read, damaged in one of many ways or not at all."""
    streams = [[b"s%d" % n, _entries(rng)] for n in range(rng.choice((1, 1, 1, 2, 3)))]
    data = to_resp(streams)
    way = rng.randrange(6)
    if way == 0:
        return damage(data, rng)
    head = rng.choice(list(re.finditer(rb"[*$](-?\d+)\r\n", data)))
    if way in (1, 2):
        return data[: head.start(1)] + rng.choice(_SIZES) + data[head.end(1) :]
    if way == 3:
        return data[: head.start()] + rng.choice(_OTHERS) + data[head.start() :]
    return data


def _entries(rng: random.Random) -> list[Any]:
    flat = _flat(rng)
    entries = []
    for number in range(rng.choice((0, 1, 2, 5, 9))):
        if rng.random() < 0.2:
            flat = _flat(rng)
        entry_id = b"%d-%d" % (number, number)
        if rng.random() < 0.3:
            entry_id = b"%d-%d" % (rng.choice(_PARTS), rng.choice(_PARTS))
        again = [part if n % 2 == 0 else _value(rng) for n, part in enumerate(flat)]
        entries.append([entry_id, None if rng.random() < 0.05 else again])
    return entries


def _flat(rng: random.Random) -> list[bytes]:
    names = rng.sample(_NAMES, rng.choice((0, 1, 1, 2, 3, 5)))
    return [text for name in names for text in (name, b"")]


def _value(rng: random.Random) -> bytes:
    way = rng.randrange(5)
    if way == 0:
        return rng.choice(HOSTILE)
    if way == 1:
        return rng.randbytes(rng.choice((0, 1, 4, 8, 16, 24, 40)))
    if way == 2:
        numbers = np.array([rng.choice((0.0, 1.5, np.nan, np.inf, 1e30)) for _ in range(6)])
        return numbers.astype(rng.choice(("<f4", "<f8"))).tobytes()
    number = repr(rng.choice((rng.random(), rng.randrange(10**9), -1e-30 * rng.random()))).encode()
    return number if way == 3 else b"[" + b",".join([number] * rng.choice((1, 2, 3, 40))) + b"]"


def _try(data: bytes, rng: random.Random, tally: dict[str, int]) -> None:
    if _ANNOUNCED.search(data) is None:
        assert outcome(NativeConnection(), data) == outcome(HiredisConnection(), data), (
            "hiredis reads another reply"
        )
    cuts: Sequence[int] = range(len(data))
    for cut in cuts if len(data) < _MAX_CUTS else rng.sample(cuts, _MAX_CUTS):
        _scan(data[:cut])
    found = _scan(data)
    if found is None:
        return
    tally["whole"] += 1
    for items in found:
        tally["entries"] += len(items)
        if len(items):
            _check_points(items, rng)
            tally["coded"] += _check_codes(items, rng)


def _scan(data: bytes) -> list[Packed] | None:
    """Return the entries of each stream, if that is what the bytes are."""
    buffer = np.frombuffer(data, np.uint8).copy()
    scan = wire.ReplyScan(60)
    if scan(buffer.ctypes.data, len(buffer)) != wire.WHOLE:
        return None
    streams, rows = scan.take()
    rows[:, wire.BODY] += buffer.ctypes.data
    starts = [*(first for _, _, first in streams), len(rows)]
    return [Packed(rows[start:stop], (buffer,)) for start, stop in pairwise(starts)]


def _check_points(items: Packed, rng: random.Random) -> None:
    form, D = rng.choice(ENTRY_FORMATS), rng.choice((1, 2, 3))
    layout = Layout(
        form,
        None if form == "fields" else DEFAULT_FIELD[form],
        rng.choice((None, "w")),
        tuple(f"x{d}" for d in range(D)) if form == "fields" or rng.random() < 0.5 else (),
        D,
        strict=form == "fields" and rng.random() < 0.5,
    )
    there = items[~items.gone]
    if not len(there):
        return
    flats = there.flats()
    assert flats == [flat for _, flat in to_lists(there)]
    natively, by_python = there.decode(layout), decode_flats(flats, layout)
    assert natively.X.astype(np.float64).tobytes() == by_python.X.tobytes(), "other points"
    assert natively.dead == by_python.dead, "other dead points"
    assert (natively.w is None) == (by_python.w is None)


def _check_codes(items: Packed, rng: random.Random) -> int:
    """Return how many codes were written natively."""
    index = [rng.choice((-(2**31), -1, 0, 5, 2**31 - 1)) for _ in range(len(items))]
    distances = [rng.choice(_DISTANCES) * (0.5 + rng.random()) for _ in range(len(items))]
    distances = [min(distance, 1.7e308) for distance in distances]
    if rng.random() < 0.2:
        distances[rng.randrange(len(items))] = rng.choice(_ODD_DISTANCES)
    scores = {}
    if rng.random() < 0.5:
        scores["quantile"] = np.array([rng.choice((-1.0, 1.0)) * each for each in distances])
    codes = Codes(np.array(index, np.int32), np.array(distances), scores=scores)
    version = rng.choice(_VERSIONS)
    found = pack_points(items, codes, version, _LABELS, list)
    if not found:
        return 0
    assert as_rows(found) == as_rows(_by_python(items, codes, version)), "other codes"
    return len(items)


def _by_python(items: Packed, codes: Codes, version: int) -> list[Entry]:
    fields = encode_points(codes, version)
    labelled = []
    for (entry_id, flat), own in zip(to_lists(items), fields, strict=True):
        pairs = zip(flat[::2], flat[1::2], strict=True)
        labels = [text for name, value in pairs if name in _LABELS for text in (name, value)]
        labelled.append((entry_id, [*own, *labels]))
    return labelled
