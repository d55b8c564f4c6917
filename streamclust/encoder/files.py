"""Files of points to files of codes, and back."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamclust.encoder.packed import Header, Packer, bits_of, from_bytes, to_bytes
from streamclust.encoder.pictures import psnr
from streamclust.errors import DataError
from streamclust.quantize import Codes, quantize, reconstruct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.store.published import Model


@dataclass(frozen=True)
class FileReport:
    """What became of a file.

    Parameters
    ----------
    model : str
    version : int
    points : int
    n_components : int
    bits_per_point : int
        ceil(log2 K).
    distortion : float
        Mean squared distance J / N.
    file_bytes : int
        Size of the file of codes, with its header and codebook.
    ratio : float
        The points as float32, over that size.
    psnr : float or None
        In dB; of a picture.
    """

    model: str
    version: int
    points: int
    n_components: int
    bits_per_point: int
    distortion: float
    file_bytes: int
    ratio: float
    psnr: float | None = None


def encode_chunks(model: Model, chunks: Iterable[NDArray[np.floating]]) -> Iterator[Codes]:
    """Yield the codes of each chunk of points, shape (n, D)."""
    for X in chunks:
        yield quantize(model.family, model.params, X)


def encode_file(
    model: Model,
    chunks: Iterable[NDArray[np.floating]],
    out: Path,
    *,
    codebook: bool = True,
    picture: tuple[int, int, int] | None = None,
    peak: float = 255.0,
    on_progress: Callable[[int], object] | None = None,
) -> FileReport:
    """Write the codes of points to a file; it is there whole, or not at all.

    Parameters
    ----------
    model : Model
    chunks : iterable of arrays of shape (n, D)
    out : Path
    codebook : bool, default=True
        Keep the centroids in the file; else it names the model and its version.
    picture : tuple of int, optional
        Height, width and channels, if the points are pixels.
    peak : float, default=255
        The value of white in them.
    on_progress : callable, optional
        Called with the number of points so far.

    Raises
    ------
    DataError
        If the points don't fit the model, or the file can't be written.
    """
    K, D = model.means.shape
    packer, n, J = Packer(bits_of(K)), 0, 0.0
    for codes in encode_chunks(model, chunks):
        packer.add(codes.index)
        n += len(codes)
        J += float(codes.distance @ codes.distance)
        if on_progress is not None:
            on_progress(n)
    if not n:
        raise DataError("there are no points to encode")
    header = Header(model.name, model.version, n, K, model.features, J / n, picture, peak)
    if not codebook:
        header = replace(header, model_id=model.model_id)
    data = to_bytes(header, packer.done(), model.means if codebook else None)
    _write_whole(out, data)
    report = FileReport(
        model.name, model.version, n, K, header.bits, J / n, len(data), 4.0 * n * D / len(data)
    )
    return report if picture is None else replace(report, psnr=psnr(J / n, D, peak))


def _write_whole(out: Path, data: bytes) -> None:
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"can't write {out}: {error.strerror}") from None


def decode_file(path: Path, find: Callable[[str, int], Model]) -> tuple[Header, Array]:
    """Return the header of a file of codes, and the points that they stand for, shape (N, D).

    Parameters
    ----------
    path : Path
    find : callable
        Returns a model by name and version; called for a file without a codebook.

    Raises
    ------
    DataError
        If the file can't be read, or the model has been begun anew since.
    FormatError
        If it holds something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from None
    header, codes, codebook = from_bytes(data, str(path))
    if codebook is None:
        model = find(header.model, header.version)
        if model.model_id and header.model_id not in (0, model.model_id):
            raise DataError(
                f"{path} holds codes by an earlier model {header.model!r}, which was begun anew "
                f"since: version {header.version} is another one now"
            )
        codebook = model.means
    return header, reconstruct(codebook, codes)


def write_points(out: Path, X: Array, features: tuple[str, ...]) -> None:
    """Write points as .npy or, under any other name, as CSV.

    Raises
    ------
    DataError
        If the file can't be written.
    """
    try:
        if out.suffix.lower() == ".npy":
            np.save(out, X, allow_pickle=False)
        else:
            names = features or tuple(f"x{d}" for d in range(X.shape[1]))
            np.savetxt(out, X, fmt="%.17g", delimiter=",", header=",".join(names), comments="")
    except OSError as error:
        raise DataError(f"can't write {out}: {error.strerror}") from None
