"""The points of a state, in the separate value `:coreset`, to which a commit can append.

A state has statistics and parameters, which change in each step, and points: the coreset, the
sample of the warm-up, and the problem of a pending fit. The points are the larger part, and most
steps only add a few. So `:coreset` has two parts: a base (safetensors) with the points that most
commits don't change, and rows of the set of points that grows. A row has the D coordinates and the
weight of one point, as little-endian float64. The bytes depend only on the state, not on earlier
commits.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamclust.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

_GROWING = (("fresh", "fresh_weight"), ("sample", "sample_weight"))
"""Points and weights that can be the rows. The first pair that isn't empty is used."""

_NAMES = (
    *(name for pair in _GROWING for name in pair),
    *("core", "core_weight", "pending.core", "pending.core_weight"),
)


@dataclass(frozen=True, eq=False)
class Change:
    """How `:coreset` changes in a commit.

    Parameters
    ----------
    how : {'keep', 'append', 'set'}
    data : bytes
        The bytes to append, or the whole value.
    before : int
        Number of bytes that the value must have before the commit; not used for 'set'.
    """

    how: Literal["keep", "append", "set"] = "set"
    data: bytes = b""
    before: int = 0


@dataclass(frozen=True, eq=False)
class StatePoints:
    """The contents of `:coreset`, and the checksums of its bytes.

    Parameters
    ----------
    base : dict of str to array
        Points and weights, without the rows.
    growing : tuple of str
        Names of the arrays of the rows: points and weights; empty without rows.
    rows, weights : arrays of shape (M, D) and (M,)
    base_bytes : int
    base_crc, crc : int
        CRC-32 of the base, and of the value.
    """

    base: Arrays = field(default_factory=dict)
    growing: tuple[str, ...] = ()
    rows: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0)))
    weights: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    base_bytes: int = 0
    base_crc: int = 0
    crc: int = 0

    @property
    def nbytes(self) -> int:
        """Number of bytes of the value."""
        return self.base_bytes + self.rows.nbytes + self.weights.nbytes

    @property
    def meta(self) -> dict[str, Any]:
        """The description of the value in `:state`, for reading it and for detecting damage."""
        return {
            "base": self.base_bytes,
            "growing": list(self.growing),
            "shape": [len(self.rows), self.rows.shape[1]],
            "crc32": self.crc,
        }

    def tail(self, start: int = 0) -> bytes:
        """Return the bytes of the rows from number `start` on."""
        rows = np.column_stack([self.rows[start:], self.weights[start:]])
        return np.ascontiguousarray(rows, "<f8").tobytes()

    def starts_with(self, other: StatePoints) -> bool:
        """Return whether `other` has the same base, and its rows are the first rows here."""
        n = len(other.rows)
        return (
            same_arrays(self.base, other.base)
            and self.growing == other.growing
            and self.rows.shape[1] == other.rows.shape[1]
            and np.array_equal(self.rows[:n], other.rows)
            and np.array_equal(self.weights[:n], other.weights)
        )


def split(arrays: Arrays) -> tuple[Arrays, StatePoints]:
    """Return the arrays that stay in `:state`, and the points, without CRCs."""
    large = {name: arrays[name] for name in _NAMES if name in arrays and len(arrays[name])}
    growing = next((pair for pair in _GROWING if pair[0] in large), ())
    base = {name: array for name, array in large.items() if name not in growing}
    rest = {name: array for name, array in arrays.items() if name not in large}
    if not growing:
        return rest, StatePoints(base)
    return rest, StatePoints(base, growing, large[growing[0]], large[growing[1]])


def change_of(before: StatePoints | None, after: StatePoints) -> tuple[StatePoints, Change]:
    """Return the points with their CRCs, and the change that a commit writes.

    Parameters
    ----------
    before : StatePoints or None
        The points on the server, with CRCs; None if unknown: the whole value is written.
    after : StatePoints
        Result of `split`.
    """
    if before is None or not after.starts_with(before):
        named = {
            name: np.ascontiguousarray(array, "<f8") for name, array in sorted(after.base.items())
        }
        base = save(named) if named else b""
        value = base + after.tail()
        crc = zlib.crc32(base)
        written = _with_crc(after, len(base), crc, zlib.crc32(value[len(base) :], crc))
        return written, Change("set", value)
    tail = after.tail(len(before.rows))
    crc = zlib.crc32(tail, before.crc)
    written = _with_crc(after, before.base_bytes, before.base_crc, crc)
    return written, Change("append" if tail else "keep", tail, before.nbytes)


def with_points(rest: Arrays, meta: Mapping[str, Any], value: bytes, where: str) -> dict[str, Any]:
    """Return all arrays of a state: those in `:state`, and the points of `value`.

    Parameters
    ----------
    rest : dict of str to array
    meta : dict
        `StatePoints.meta`, as it was stored.
    value : bytes
        The value of `:coreset`; empty if the key doesn't exist.
    where : str
        The keys, for the error.

    Raises
    ------
    FormatError
        If the value wasn't committed together with the state.
    LookupError, TypeError, ValueError
        If `meta` is damaged.
    """
    size, growing, (n, dimension) = meta["base"], tuple(meta["growing"]), meta["shape"]
    if len(value) != size + 8 * n * (dimension + 1) or zlib.crc32(value) != meta["crc32"]:
        raise FormatError(
            f"{where} holds the points of another state ({len(value):,} bytes): one of the two "
            "keys may have been deleted, or restored from a backup; restore both keys of the same "
            "time, or delete all keys of the model to learn from the start"
        )
    try:
        points = load(value[:size]) if size else {}
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if growing:
        if growing not in _GROWING:
            raise ValueError(f"growing is {growing}; expected one of {_GROWING}")
        rows = np.frombuffer(value, "<f8", offset=size).reshape(n, dimension + 1)
        points |= {growing[0]: rows[:, :-1].copy(), growing[1]: rows[:, -1].copy()}
    return {**rest, **points}


def same_arrays(a: Arrays, b: Arrays) -> bool:
    """Return whether two sets have equal arrays; most arrays are the same objects."""
    return a.keys() == b.keys() and all(
        array is b[name] or np.array_equal(array, b[name]) for name, array in a.items()
    )


def _with_crc(points: StatePoints, base_bytes: int, base_crc: int, crc: int) -> StatePoints:
    return replace(points, base_bytes=base_bytes, base_crc=base_crc, crc=crc)
