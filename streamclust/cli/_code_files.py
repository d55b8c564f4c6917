"""Points in files to codes in files: the parts that ``encode`` and ``decode`` share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import warn
from streamclust.cli._progress import point_progress
from streamclust.cli._server import opened_server
from streamclust.cli._signals import Wakeup
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from streamclust.arrays import Labels
    from streamclust.config import Settings
    from streamclust.encoder.files import FileReport
    from streamclust.formats.model import Model
    from streamclust.tables import Chunk, ModelColumns, SkippedRows

_BAND = 1 << 16
"""Number of pixels per chunk."""

Points = tuple["Iterator[NDArray[np.floating]]", "int | None", "tuple[int, int, int] | None"]


def encode_points(
    settings: Settings,
    name: str,
    source: str,
    as_json: bool,
    *,
    file: Path | None,
    image: Path | None,
    stdin: bool,
    out: Path | None,
    table: dict[str, Any],
    version: int | None,
    codebook: bool,
    peak: float,
    scores: tuple[str, ...],
) -> None:
    """Encode a file, a picture or standard input, to a file or to standard output."""
    from streamclust.encoder.files import encode_chunks, encode_file
    from streamclust.files import check_target
    from streamclust.runtime.assemble import points_format
    from streamclust.tables import ModelColumns

    if out is not None:
        check_target(out)
    wakeup = Wakeup()
    model = find_model(settings, name, version)
    if name in settings.models:
        own = settings.models[name]
        model.check_settings(points_format(own), own.scale)
        model = model.accepting(own.points.missing)
        scores = scores or own.encode.score
    scores = tuple(each for each in scores if each != "distance")
    if image is not None:
        chunks, total, picture = _pixels(image, model.means.shape[1], peak)
    else:
        needs = ModelColumns(f"model {model.name!r}", model.features, model.means.shape[1])
        if stdin and out is None:
            table = table | {"on_bad": table["on_bad"] or "skip"}
        table = table | {"missing": model.family.missing}
        chunks, total, picture = _rows(file, table, needs, wakeup.wait_for)
    try:
        if out is None:
            with wakeup:
                _print(encode_chunks(model, chunks, scores), model.ids, model.metric, scores)
            return
        with wakeup, point_progress(total) as on_progress:
            report = encode_file(
                model,
                chunks,
                out,
                codebook=codebook,
                picture=picture,
                peak=peak,
                scores=scores,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    click.echo(exact_json(asdict(report)) if as_json else _sentence(report, out))


def impute_points(
    settings: Settings,
    name: str,
    file: Path,
    out: Path,
    table: dict[str, Any],
    *,
    version: int | None,
    variance: bool,
    as_json: bool,
) -> None:
    """Write the points of a file with expected values in place of the missing ones."""
    from streamclust.encoder.imputation import impute_file
    from streamclust.files import check_target
    from streamclust.tables import ModelColumns, TableOptions, count_rows

    if out.suffix.lower() not in (".npy", ".csv"):
        raise click.UsageError(f"--out {out}: --impute writes .npy or .csv")
    check_target(out)
    model, wakeup = find_model(settings, name, version), Wakeup()
    options = TableOptions(**table, missing="learn")
    needs = ModelColumns(f"model {model.name!r}", model.features, model.means.shape[1])
    try:
        with wakeup, point_progress(count_rows(file, kind=options.kind)) as on_progress:
            report = impute_file(
                model,
                file,
                options,
                needs,
                out,
                variance=variance,
                warn=warn,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    if as_json:
        click.echo(exact_json(asdict(report)))
        return
    click.echo(
        f"{report.points:,} points to {out}, {report.imputed:,} of {report.values:,} values "
        f"imputed by version {report.version} of {report.model!r}"
    )


def find_model(settings: Settings, name: str, version: int | None = None) -> Model:
    """Return a published model, or the model in a .safetensors file."""
    if not name.endswith(".safetensors"):
        return published_model(settings, name, version)
    from streamclust.errors import DataError
    from streamclust.files import read_whole
    from streamclust.formats.model import decode_model
    from streamclust.store.model.keys import VALUE_BYTES

    model = decode_model(read_whole(name, VALUE_BYTES), name)
    if version not in (None, model.version):
        raise DataError(
            f"--version {version}: {name} holds version {model.version}; leave --version out"
        )
    return model


def published_model(settings: Settings, name: str, version: int | None = None) -> Model:
    """Return a published model; start the embedded server for it if its data are stored here."""
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.versions import read_model

    with opened_server(settings) as server:
        return read_model(server.client(), Keys(settings.namespace, name), version)


def _rows(
    file: Path | None,
    table: dict[str, Any],
    model: ModelColumns,
    wait_for: Callable[[int], None],
) -> Points:
    """Return the points of a table; a bad row is a point of NaN."""
    from streamclust.tables import SkippedRows, TableOptions, count_rows, read_table

    path = "-" if file is None else str(file)
    options = TableOptions(**{name: value for name, value in table.items() if value is not None})
    chunks = read_table(path, options, model=model, warn=warn, wait_for=wait_for)
    total = None if file is None else count_rows(path, kind=options.kind)
    return _with_bad_rows(chunks, SkippedRows(warn)), total, None


def _with_bad_rows(chunks: Iterator[Chunk], count: SkippedRows) -> Iterator[NDArray[np.floating]]:
    import numpy as np

    for chunk in chunks:
        count.add(chunk)
        places = [row.place for row in chunk.bad]
        yield np.insert(chunk.X, places, np.nan, axis=0) if places else chunk.X
    count.report()


def _pixels(image: Path, channels: int, peak: float) -> Points:
    from streamclust.encoder.pictures import read_picture

    pixels = read_picture(image, channels)
    height, width, _ = pixels.shape
    flat = pixels.reshape(-1, channels)
    bands = (flat[start : start + _BAND] * (peak / 255.0) for start in range(0, len(flat), _BAND))
    return bands, len(flat), (height, width, channels)


def _print(parts: Iterator[Any], ids: Labels, metric: str, scores: tuple[str, ...]) -> None:
    """Write one line of CSV per point, as soon as the point is encoded."""
    import numpy as np

    more = ("similarity", *scores) if metric == "cosine" else scores
    header = f"{','.join(('code', 'distance', *more))}\n"
    for codes in parts:
        index = (
            np.where(codes.index < 0, codes.index, ids[codes.index]) if len(ids) else codes.index
        )
        columns = [index.tolist(), map(repr, codes.distance.tolist())]
        if codes.similarity is not None:
            columns.append(map(repr, codes.similarity.tolist()))
        columns += [map(repr, values.tolist()) for values in codes.scores.values()]
        lines = "".join(f"{','.join(map(str, row))}\n" for row in zip(*columns, strict=True))
        click.echo(header + lines, nl=False)
        header = ""
    click.echo(header, nl=False)


def _sentence(report: FileReport, out: Path) -> str:
    quality = "" if report.psnr is None else f", PSNR {report.psnr:.2f} dB"
    return (
        f"{report.points:,} points to {out}: {report.bits_per_point} bits per point, "
        f"{report.file_bytes:,} bytes (1/{report.ratio:.1f} of float32), "
        f"distortion {report.distortion:.6g}{quality}"
    )
