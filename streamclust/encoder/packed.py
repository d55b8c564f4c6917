"""Codes in a file: ceil(log2 K) bits a point, with the codebook or the name of the model.

The container is safetensors: ``codes``, the packed bits (uint8, the highest bit first), and
``codebook``, the centroids or means (float64, shape (K, D)), unless the file only names the model.
Its JSON (see `streamclust.store.payload`) says what `Header` says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import FormatError
from streamclust.store.payload import pack, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array

FORMAT = "streamclust.codes/1"


@dataclass(frozen=True)
class Header:
    """What a file of codes says of itself.

    Parameters
    ----------
    model : str
        Name of the model, and
    version : int
        its version.
    n : int
        Number of points.
    n_components : int
        K.
    features : tuple of str
        Names of the features, if there are any.
    distortion : float
        Mean squared distance J / N.
    picture : tuple of int or None
        Height, width and channels, if the points are the pixels of a picture, row by row.
    peak : float
        The value of white in such a picture, in the model's units.
    model_id : int
        Of the model, where the file names it instead of holding its centroids; 0 if not known.
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
        """Bits a point, ceil(log2 K)."""
        return bits_of(self.n_components)


def bits_of(n_components: int) -> int:
    """Return ceil(log2 K), the bits that tell K codes apart."""
    return (n_components - 1).bit_length()


class Packer:
    """Packs codes that come in pieces.

    Parameters
    ----------
    bits : int
        Bits a code.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._bytes = bytearray()
        self._rest = np.empty(0, np.int32)

    def add(self, index: NDArray[np.int32]) -> None:
        """Append codes."""
        codes = np.concatenate([self._rest, index])
        whole = len(codes) // 8 * 8  # so many fill whole bytes, whatever the bits
        self._bytes += _packed(codes[:whole], self._bits)
        self._rest = codes[whole:]

    def done(self) -> NDArray[np.uint8]:
        """Return all of them; the last byte is filled up with zeros."""
        return np.frombuffer(self._bytes + _packed(self._rest, self._bits), np.uint8)


def _packed(codes: NDArray[np.int32], bits: int) -> bytes:
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((codes[:, None] >> shifts) & 1).astype(np.uint8)).tobytes()


def unpack_codes(data: NDArray[np.uint8], bits: int, n: int) -> NDArray[np.int32]:
    """Return the first `n` codes of what a `Packer` packed."""
    if len(data) != -(-n * bits // 8):
        raise ValueError(f"{len(data)} bytes for {n} codes of {bits} bits")
    planes = np.unpackbits(data, count=n * bits).reshape(n, bits)
    codes = np.zeros(n, np.int32)
    for plane in planes.T:
        codes = (codes << 1) | plane
    return codes


def to_bytes(header: Header, packed: NDArray[np.uint8], codebook: Array | None) -> bytes:
    """Return the file."""
    arrays: dict[str, NDArray[Any]] = {"codes": packed}
    if codebook is not None:
        arrays["codebook"] = codebook
    meta = asdict(header)
    if not header.model_id:
        del meta["model_id"]
    return pack(FORMAT, arrays, meta)


def from_bytes(data: bytes, where: str) -> tuple[Header, NDArray[np.int32], Array | None]:
    """Return the header, the codes and, if it is there, the codebook.

    Raises
    ------
    FormatError
        If the bytes are damaged or something else; `where` is named.
    """
    arrays, meta = unpack(data, FORMAT, where)
    try:
        picture = meta["picture"]
        header = Header(
            **{
                **meta,
                "features": tuple(meta["features"]),
                "picture": None if picture is None else tuple(picture),
            }
        )
        codes = unpack_codes(arrays["codes"], header.bits, header.n)
        return header, codes, arrays.get("codebook")
    except (LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{where} holds damaged codes: {error!r}") from None
