"""Damage: small random changes of bytes, and values that parsers are known to stumble over."""

from __future__ import annotations

import random
from collections.abc import Callable

HOSTILE = (
    *(b"", b" ", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf1", b"-", b"+", b".", b"e5", b"1e", b"0x1p3"),
    *(b"nan", b"-NaN", b"inf", b"-Infinity", b"1e999", b"-1e101", b"1e-400", b"-0.0", b"1_000"),
    *(b" 1 ", b"1\n", b"1,2", b"1;2", "١٢".encode(), "½".encode(), "−1".encode(), b"true", b"null"),
    *(b"[]", b"[[]]", b"[[],[]]", b"{}", b'""', b'"1"', b"[1", b"1]", b"[1,2,]", b"[1],[2]", b"]["),
    *(b"[null]", b"[true,false]", b'["1","2"]', b"[[1,[2]]]", b"[1,[2,3]]", b"[NaN,1]", b"[1e999]"),
    *(
        b'{"x0":1}',
        b'{"x0":1,"x0":2}',
        b'[{"x0":1,"x1":2},[1,2]]',
        b'{"x0":{"x1":1}}',
        b'"\\ud800"',
    ),
    *(b"[" * 5000, b'{"a":' * 3000, b"9" * 5000, b"[" + b"1," * 2000 + b"1]", b"0" * 4000 + b"1"),
    *(b"\x00" * 8, b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x01\x00\x80\x7f", b"\xff" * 16),
    *(b"999999999999999999999", b"-1", b"0", b"3", b"1" * 30, b"2.0", b"1e3"),
)


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _lose_the_head(data: bytes, rng: random.Random) -> bytes:
    return data[rng.randrange(1, len(data) + 1) :]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 9) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(HOSTILE) + data[at:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    return data + data[rng.randrange(len(data)) :]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    noise = rng.randbytes(rng.randrange(1, 17))
    return data[:at] + noise + data[at + len(noise) :]


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _truncate,
    _lose_the_head,
    _cut_out,
    _insert,
    _repeat,
    _overwrite,
)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one random damage, or a hostile value instead of them."""
    if not data or rng.random() < 0.1:
        return rng.choice(HOSTILE)
    return rng.choice(_WAYS)(data, rng)
