"""Encodes files of points to files of codes, and decodes them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.encoder.pictures import psnr
from streamclust.errors import DataError, FormatError
from streamclust.files import check_expansion, new_file, read_whole, write_whole
from streamclust.formats.code_file import (
    MAX_EXPANSION,
    Header,
    Packer,
    bits_of,
    check_codebook,
    parse,
    to_bytes,
    unpack_codes,
)
from streamclust.formats.codes import NO_CODE, score_type, with_bad_points
from streamclust.models.quantize import Codes, quantize, quantize_and_score, reconstruct
from streamclust.models.scores import point_scores
from streamclust.text import csv_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.formats.model import Model

MAX_BYTES = 1 << 30
"""Maximum bytes of codes per file, 1 GiB: they are held in memory."""

_PART_CELLS = 1 << 20
"""Numbers per part that is decoded."""


@dataclass(frozen=True)
class FileReport:
    """The size and the distortion of a file of codes.

    Parameters
    ----------
    model : str
    version : int
    points : int
    n_components : int
    bits_per_point : int
        ceil(log2 K).
    distortion : float
        Mean squared distance J / N, or the mean of 1 - cos.
    file_bytes : int
        Size of the file of codes, with its header and codebook.
    ratio : float
        Size of the points as float32, divided by `file_bytes`.
    psnr : float or None
        Of a picture, in dB.
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


def encode_chunks(
    model: Model, chunks: Iterable[NDArray[np.floating]], scores: Sequence[str] = ()
) -> Iterator[Codes]:
    """Yield the codes of each chunk of points, shape (n, D); a point with NaN has code -1.

    If the model accepts missing values, only a point without any value has code -1. With the metric
    cosine, a zero vector has code -1 too. `scores` are more scores for the codes; see
    `streamclust.models.scores`.

    Raises
    ------
    DataError
        If the model doesn't have one of the scores.
    """
    gaps = model.family.missing == "learn"
    known = model.remembered_for(scores)
    for X in chunks:
        good = ~np.isnan(X).all(axis=1) if gaps else np.isfinite(X).all(axis=1)
        if model.metric == "cosine":
            good &= X.any(axis=1)
        points = X if good.all() else X[good]
        family, params = model.family, model.params
        if scores:
            codes, raw = quantize_and_score(family, params, points)
            prepared: Array = np.asarray(points, np.float64)
            found = point_scores(family, params, prepared, codes.index, scores, known, raw)
            codes = replace(codes, scores=found)
        else:
            codes = quantize(family, params, points)
        yield codes if good.all() else with_bad_points(codes, good)


def encode_file(
    model: Model,
    chunks: Iterable[NDArray[np.floating]],
    out: Path,
    *,
    codebook: bool = True,
    picture: tuple[int, int, int] | None = None,
    peak: float = 255.0,
    scores: Sequence[str] = (),
    on_progress: Callable[[int], object] | None = None,
) -> FileReport:
    """Write the codes of points to a file; after an error, no file is left.

    Parameters
    ----------
    model, out : Model and Path
    chunks : iterable of arrays of shape (n, D)
    codebook : bool, default=True
        Store the centroids in the file; else the file names the model and its version.
    picture, peak : tuple of int and float, optional
        Height, width and channels, and the value of white, if the points are pixels.
    scores : sequence of str, optional
        Scores of the points to store beside the codes; see `streamclust.models.scores`.
    on_progress : callable, optional
        Called with the number of points so far.

    Raises
    ------
    DataError
        If the points don't fit the model, or the file can't be written.
    """
    K, D = model.means.shape
    packer, n, J = Packer(bits_of(K)), 0, 0.0
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in scores}
    bits = bits_of(K) + sum(8 * score_type(name).itemsize for name in scores)
    for codes in encode_chunks(model, chunks, scores):
        packer.add(codes.index)
        for name, values in codes.scores.items():
            parts[name].append(values.astype(score_type(name)))
        n += len(codes)
        if n * bits > 8 * MAX_BYTES:
            raise DataError(f"more than {MAX_BYTES:,} bytes of codes; encode into several files")
        if model.metric == "cosine":
            _refuse_zeros(codes)
            J += float(codes.distance.sum())
        else:
            J += float(codes.distance @ codes.distance)
        if on_progress is not None:
            on_progress(n)
    if not n:
        raise DataError("there are no points to encode")
    header = Header(model.name, model.version, n, K, model.features, J / n, picture, peak)
    if not codebook:
        header = replace(header, model_id=model.model_id)
    found = {name: np.concatenate(values) for name, values in parts.items()}
    data = to_bytes(header, packer.done(), model.means if codebook else None, found)
    write_whole(out, data)
    sizes = header.bits, J / n, len(data), 4.0 * n * D / len(data)
    report = FileReport(model.name, model.version, n, K, *sizes)
    return report if picture is None else replace(report, psnr=psnr(J / n, D, peak))


def _refuse_zeros(codes: Codes) -> None:
    if codes.index.min(initial=0) == NO_CODE:
        raise DataError(
            "a point is a zero vector, which has no direction (metric cosine); remove zero vectors"
        )


def decode_file(path: Path, find: Callable[[str, int], Model]) -> tuple[Header, Array]:
    """Return the header of a file of codes, and the decoded points, shape (N, D).

    Parameters
    ----------
    path : Path
    find : callable
        Returns a model by name and version; called for a file without a codebook.

    Raises
    ------
    DataError
        If the file can't be read, or the model was created again since.
    FormatError
        If the file is damaged, or has far more points than its size allows.
    """
    header, _, parts = decode_parts(path, find)
    return header, np.concatenate(list(parts))


def decode_parts(
    path: Path, find: Callable[[str, int], Model]
) -> tuple[Header, int, Iterator[Array]]:
    """Return the header, D, and the points in parts, each of shape (n, D); see `decode_file`."""
    data = read_whole(path, 2 * MAX_BYTES)  # codes, and a codebook
    header, packed, codebook = parse(data, str(path))
    if codebook is None:
        model = find(header.model, header.version)
        if model.model_id and header.model_id not in (0, model.model_id):
            raise DataError(
                f"{path} holds codes by an earlier model {header.model!r}, which was created "
                f"again since: version {header.version} is another one now"
            )
        codebook = model.means
        try:
            check_codebook(codebook, header)
            size = 8 * header.n * codebook.shape[1]
            check_expansion(str(path), size, len(data), MAX_EXPANSION)
        except ValueError as error:
            raise FormatError(f"{path} doesn't fit model {header.model!r}: {error}") from None
    return header, codebook.shape[1], _decoded(header, packed, codebook)


def _decoded(header: Header, packed: NDArray[np.uint8], codebook: Array) -> Iterator[Array]:
    rows = max(8, _PART_CELLS // (codebook.shape[1] + header.bits) // 8 * 8)  # whole bytes of codes
    for start in range(0, header.n, rows):
        n = min(rows, header.n - start)
        part = packed[start * header.bits // 8 : -(-(start + n) * header.bits // 8)]
        yield reconstruct(codebook, unpack_codes(part, header.bits, n))


def write_points(out: Path, X: Array, features: tuple[str, ...]) -> None:
    """Write points as .npy or, under any other name, as CSV.

    Raises
    ------
    DataError
        If the file can't be written.
    """
    write_parts(out, [X], X.shape, features)


def write_parts(
    out: Path,
    parts: Iterable[Array],
    shape: tuple[int, ...],
    features: tuple[str, ...],
    number_format: str = "%.17g",
) -> None:
    """Write points given in parts; `shape` is their (N, D). See `write_points`.

    `number_format` is for CSV: "%s" writes the fewest digits that give the same number. In CSV,
    names of features are escaped: see `streamclust.text.csv_cell`.
    """
    with new_file(out) as file:
        if out.suffix.lower() == ".npy":
            head = {"descr": "<f8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, head)
            for part in parts:
                file.write(np.ascontiguousarray(part, "<f8").tobytes())
        else:
            names = io.StringIO()
            cells = map(csv_cell, features or tuple(f"x{d}" for d in range(shape[1])))
            csv.writer(names, lineterminator="\n").writerow(cells)
            file.write(names.getvalue().encode())
            for part in parts:
                np.savetxt(file, part, fmt=number_format, delimiter=",")
