"""The points of a state, in a value of their own that a commit can append to.

A state has statistics and parameters, which change in each step, and points: the coreset, the
sample of the warm-up, the problem of a pending fit. The points are the larger part, and most steps
only add some. So `:coreset` has two parts: a base (safetensors) with the points that a commit
doesn't change, and rows of a growing set of points. A row is the D coordinates and the weight of
one point, as little-endian float64. The bytes depend on the state alone, not on the commits before.
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
"""Points and weights that can be the rows; the first pair that isn't empty."""

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
        Number of bytes that the value must have before, unless it is set.
    """

    how: Literal["keep", "append", "set"] = "set"
    data: bytes = b""
    before: int = 0


@dataclass(frozen=True, eq=False)
class StatePoints:
    """The value of `:coreset`, without its bytes.

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
        """What `:state` stores of the value: enough to read it, and to find any damage."""
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
        """Return whether the base is that of `other`, and its rows are the first ones here."""
        n = len(other.rows)
        return (
            same_arrays(self.base, other.base)
            and self.growing == other.growing
            and self.rows.shape[1] == other.rows.shape[1]
            and np.array_equal(self.rows[:n], other.rows)
            and np.array_equal(self.weights[:n], other.weights)
        )


def split(arrays: Arrays) -> tuple[Arrays, StatePoints]:
    """Return the arrays that stay in `:state`, and the points; the CRCs are not computed yet."""
    large = {name: arrays[name] for name in _NAMES if name in arrays and len(arrays[name])}
    growing = next((pair for pair in _GROWING if pair[0] in large), ())
    base = {name: array for name, array in large.items() if name not in growing}
    rest = {name: array for name, array in arrays.items() if name not in large}
    if not growing:
        return rest, StatePoints(base)
    return rest, StatePoints(base, growing, large[growing[0]], large[growing[1]])


def change_of(before: StatePoints | None, after: StatePoints) -> tuple[StatePoints, Change]:
    """Return the points with their CRCs, and what a commit has to write.

    Parameters
    ----------
    before : StatePoints or None
        What the server has, with its CRCs; None if unknown, so that the value is set.
    after : StatePoints
        From `split`.
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
        If the value isn't the one that was committed with the state.
    LookupError, TypeError, ValueError
        If `meta` is damaged.
    """
    size, growing, (n, dimension) = meta["base"], tuple(meta["growing"]), meta["shape"]
    if len(value) != size + 8 * n * (dimension + 1) or zlib.crc32(value) != meta["crc32"]:
        raise FormatError(
            f"{where} holds the points of another state ({len(value):,} bytes): was one of the two "
            "keys deleted, or restored from a backup? Restore both of the same time, or delete all "
            "keys of the model to learn from the start"
        )
    try:
        points = load(value[:size]) if size else {}
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if growing:
        if growing not in _GROWING:
            raise ValueError(f"the rows are {growing}")
        rows = np.frombuffer(value, "<f8", offset=size).reshape(n, dimension + 1)
        points |= {growing[0]: rows[:, :-1].copy(), growing[1]: rows[:, -1].copy()}
    return {**rest, **points}


def same_arrays(some: Arrays, others: Arrays) -> bool:
    """Return whether two sets have the same arrays; most are the same objects."""
    return some.keys() == others.keys() and all(
        array is others[name] or np.array_equal(array, others[name]) for name, array in some.items()
    )


def _with_crc(points: StatePoints, base_bytes: int, base_crc: int, crc: int) -> StatePoints:
    return replace(points, base_bytes=base_bytes, base_crc=base_crc, crc=crc)
