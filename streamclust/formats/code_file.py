"""Codes in a file: ceil(log2 K) bits per point, with the codebook or the name of the model.

The format is safetensors. The array ``codes`` has the packed bits (uint8, the highest bit first).
The array ``codebook`` has the centroids or means (float64, shape (K, D)); it is absent if the file
only names the model. Scores of the points (`encode.score`) are arrays of shape (n,), such as
``score.log_density``: float64 for ``score.quantile``, float32 for the others. The JSON in the
metadata (see `streamclust.formats.container`) has the fields of `Header`.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import DataError, FormatError
from streamclust.files import check_expansion
from streamclust.formats.container import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from streamclust.arrays import Array

FORMAT = "streamclust.codes/1"

MAX_EXPANSION = 4096
"""If the points exceed 1 GiB: the largest ratio of their bytes to the bytes of the file."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_POINTS = 1 << 53
_MAX_COMPONENTS = 1 << 31


@dataclass(frozen=True)
class Header:
    """The header of a file of codes.

    Parameters
    ----------
    model : str
        Name of the model.
    version : int
        Version of the model.
    n : int
        Number of points.
    n_components : int
        K.
    features : tuple of str
        Names of the features; may be empty.
    distortion : float
        Mean squared distance J / N, or the mean of 1 - cos.
    picture : tuple of int or None
        Height, width and channels, if the points are the pixels of a picture, row by row.
    peak : float
        The value of white in the picture, in the units of the model.
    model_id : int
        Model ID, if the file has no codebook; 0 if unknown.
    """

    model: str
    version: int
    n: int
    n_components: int
    features: tuple[str, ...] = ()
    distortion: float = 0.0
    picture: tuple[int, int, int] | None = None
    peak: float = 255.0
    model_id: int = 0

    @property
    def bits(self) -> int:
        """Bits per point, ceil(log2 K)."""
        return bits_of(self.n_components)


def bits_of(n_components: int) -> int:
    """Return ceil(log2 K), the bits per code."""
    return (n_components - 1).bit_length()


class Packer:
    """Packs codes that are added in parts.

    Parameters
    ----------
    bits : int
        Bits per code.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._bytes = bytearray()
        self._rest = np.empty(0, np.int32)

    def add(self, index: NDArray[np.int32]) -> None:
        """Append codes."""
        codes = np.concatenate([self._rest, index])
        whole = len(codes) // 8 * 8  # a multiple of 8 codes fills whole bytes
        self._bytes += _packed(codes[:whole], self._bits)
        self._rest = codes[whole:]

    def done(self) -> NDArray[np.uint8]:
        """Return the packed codes; the last byte is padded with zeros."""
        return np.frombuffer(self._bytes + _packed(self._rest, self._bits), np.uint8)


def _packed(codes: NDArray[np.int32], bits: int) -> bytes:
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((codes[:, None] >> shifts) & 1).astype(np.uint8)).tobytes()


def unpack_codes(data: NDArray[np.uint8], bits: int, n: int) -> NDArray[np.int32]:
    """Return the first `n` codes that a `Packer` packed."""
    if len(data) != -(-n * bits // 8):
        raise ValueError(f"{len(data)} bytes for {n} codes of {bits} bits")
    planes = np.unpackbits(data, count=n * bits).reshape(n, bits)
    codes = np.zeros(n, np.int32)
    for plane in planes.T:
        codes = (codes << 1) | plane
    return codes


def to_bytes(
    header: Header,
    packed: NDArray[np.uint8],
    codebook: Array | None,
    scores: Mapping[str, NDArray[Any]] | None = None,
) -> bytes:
    """Return the bytes of the file; `scores` are scores of the points by name."""
    arrays: dict[str, NDArray[Any]] = {"codes": packed}
    arrays |= {f"score.{name}": values for name, values in (scores or {}).items()}
    if codebook is not None:
        arrays["codebook"] = codebook
    meta = asdict(header)
    if not header.model_id:
        del meta["model_id"]
    return pack(FORMAT, arrays, meta)


def from_bytes(data: bytes, where: str) -> tuple[Header, NDArray[np.int32], Array | None]:
    """Return the header, the codes, and the codebook or None.

    Raises
    ------
    FormatError
        If the bytes are damaged or of another format; the message names `where`.
    """
    header, packed, codebook = parse(data, where)
    return header, unpack_codes(packed, header.bits, header.n), codebook


def parse(data: bytes, where: str) -> tuple[Header, NDArray[np.uint8], Array | None]:
    """Return the header, the packed codes, and the codebook or None, all of them checked.

    Raises
    ------
    FormatError
        If the bytes are damaged or of another format, or have far more points than their size
        allows; the message names `where`.
    """
    arrays, meta = unpack(data, FORMAT, where)
    try:
        header = _header(meta)
        packed = arrays["codes"]
        if packed.dtype != np.uint8 or packed.shape != (-(-header.n * header.bits // 8),):
            raise ValueError(
                f"codes of type {packed.dtype}, shape {packed.shape}, for {header.n} points of "
                f"{header.bits} bits"
            )
        codebook = arrays.get("codebook")
        if codebook is not None:
            check_codebook(codebook, header)
        n_columns = 1 if codebook is None else codebook.shape[1]
        check_expansion(where, 8 * header.n * n_columns, len(data), MAX_EXPANSION)
    except DataError as error:
        raise FormatError(str(error)) from None
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise FormatError(f"{where} holds damaged codes: {error!r}") from None
    return header, packed, codebook


def check_codebook(codebook: NDArray[Any], header: Header) -> None:
    """Refuse a codebook that doesn't belong to a header.

    Raises
    ------
    ValueError
        If its shape isn't (K, D), its values aren't finite float64, or D isn't the header's.
    """
    K, D = header.n_components, len(header.features)
    shape = codebook.shape
    if len(shape) != 2 or shape[0] != K or not shape[1] or (D and shape[1] != D):
        raise ValueError(f"codebook of shape {shape}; expected ({K}, {D or 'D'})")
    if codebook.dtype != np.float64 or not np.isfinite(codebook).all():
        raise ValueError(f"codebook of {codebook.dtype}; expected finite float64")


def _header(meta: dict[str, Any]) -> Header:
    """Return the header from untrusted JSON."""
    header = Header(
        model=_checked(meta["model"], str, lambda name: _NAME.fullmatch(name) is not None),
        version=_checked(meta["version"], int, lambda version: version >= 1),
        n=_checked(meta["n"], int, lambda n: 1 <= n <= _MAX_POINTS),
        n_components=_checked(meta["n_components"], int, lambda K: 1 <= K <= _MAX_COMPONENTS),
        features=tuple(_checked(name, str) for name in _checked(meta["features"], list)),
        distortion=float(_checked(meta["distortion"], float, math.isfinite)),
        peak=float(_checked(meta["peak"], float, lambda peak: 0 < peak < math.inf)),
        model_id=_checked(meta.get("model_id", 0), int, lambda number: number >= 0),
    )
    if meta["picture"] is None:
        return header
    height, width, channels = (_checked(size, int) for size in meta["picture"])
    if channels not in (1, 3) or height < 1 or height * width != header.n:
        raise ValueError(f"a picture of {height} x {width} x {channels}, and {header.n} points")
    return replace(header, picture=(height, width, channels))


def _checked(value: Any, kind: type[Any], fits: Callable[[Any], bool] = lambda _: True) -> Any:
    kinds = (int, float) if kind is float else (kind,)
    if type(value) not in kinds or not fits(value):
        raise ValueError(f"{str(value)[:40]!r} in the header")
    return value
