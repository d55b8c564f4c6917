"""Which kernels are used: the best that were built and that the processor can run.

`STREAMCLUST_KERNELS` (numpy, baseline, avx2, avx512 or avx512vnni) asks for others, and
`STREAMCLUST_THREADS` (default 1) for more threads. Nothing is looked up before the first call.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamclust.errors import ConfigError
from streamclust.kernels import native, twin

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

NUMPY = "numpy"

_chosen: Any = None
"""The twin's module, or a `Native`."""

_reason = ""


def chosen() -> Any:
    """Return the kernels in use: the module `twin`, or an object with the same functions.

    Raises
    ------
    ConfigError
        If `STREAMCLUST_KERNELS` names kernels that don't exist or can't run here, or
        `STREAMCLUST_THREADS` isn't a number from 1.
    """
    global _chosen  # noqa: PLW0603
    if _chosen is None:
        _chosen = _choose(os.environ.get("STREAMCLUST_KERNELS", ""), _threads())
    return _chosen


def library() -> ctypes.CDLL | None:
    """Return the native library, which has more than kernels; None where NumPy is in use."""
    kernels = chosen()
    return None if kernels is twin else kernels.library


def describe() -> str:
    """Return the name of the kernels in use, and why none are native if so."""
    name = NUMPY if chosen() is twin else chosen().name
    return f"{name} ({_reason})" if name == NUMPY and _reason else name


def available() -> tuple[str, ...]:
    """Return the names of all kernels that can run here."""
    try:
        return (NUMPY, *native.supported(native.load()))
    except native.UnavailableError:
        return (NUMPY,)


@contextmanager
def using(name: str, threads: int = 1) -> Iterator[None]:
    """Use the kernels `name` within a block; for tests and benchmarks, in one thread."""
    global _chosen  # noqa: PLW0603
    before, _chosen = _chosen, _choose(name, threads)
    try:
        yield
    finally:
        _chosen = before


def _choose(name: str, threads: int) -> Any:
    global _reason  # noqa: PLW0603
    _reason = ""
    if name == NUMPY:
        return twin
    try:
        library = native.load()
    except native.UnavailableError as error:
        _reason = str(error)
        if name:
            raise ConfigError(f"STREAMCLUST_KERNELS={name}: native kernels are {error}") from None
        return twin
    names = native.supported(library)
    if name and name not in names:
        raise ConfigError(
            f"STREAMCLUST_KERNELS={name}; expected one of {', '.join((NUMPY, *names))}"
        )
    return native.Native(library, name or names[0], threads)


def _threads() -> int:
    text = os.environ.get("STREAMCLUST_THREADS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"STREAMCLUST_THREADS={text}; expected a number from 1")
    return int(text)
