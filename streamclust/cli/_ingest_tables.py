"""The tables that ``ingest`` sends: their columns, and what an earlier run has sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamclust.cli._options import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.arrays import Missing
    from streamclust.client.progress import Progress
    from streamclust.config import Settings
    from streamclust.formats.layout import EntryFormat
    from streamclust.tables import Chunk, ModelColumns


def model_columns(
    settings: Settings, stream: str, entry_format: EntryFormat
) -> ModelColumns | None:
    """Return the features of the stream's model if the entries have no names; None if unknown."""
    from streamclust.tables import ModelColumns

    if entry_format == "fields":
        return None
    found = {
        model.points.features: name
        for name, model in settings.models.reading(stream)
        if model.points.features
    }
    if len(found) != 1:
        return None
    ((features, name),) = found.items()
    return ModelColumns(f"model {name!r}", features, len(features))


def missing_values(settings: Settings, stream: str, given: Missing | None) -> Missing:
    """Return what to do with missing values: the given value, or as a model of the stream does."""
    if given is not None:
        return given
    learns = any(model.points.missing == "learn" for _, model in settings.models.reading(stream))
    return "learn" if learns else "reject"


def warn_of_labels(
    settings: Settings, stream: str, entry_format: EntryFormat, labels: tuple[str, ...]
) -> None:
    """Warn of models that would take a label for a feature."""
    if not labels or entry_format != "fields":
        return
    for name, model in settings.models.reading(stream):
        if not model.points.features:
            warn(
                f"model {name!r} can't read entries with labels yet: name its features in "
                f"models.{name}.points.features"
            )


class IngestTables:
    """The tables of one run; each must have the columns of the first one, in any order.

    Parameters
    ----------
    files
        The files, or "-".
    options
        Keywords of `TableOptions`.
    size
        Largest number of points per chunk: full blocks.
    wait_for
        See `read_table`.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        options: dict[str, Any],
        size: int,
        wait_for: Callable[[int], None],
    ) -> None:
        self.model: ModelColumns | None = None
        self._files = files
        self._options = {name: value for name, value in options.items() if value is not None}
        self._size = size
        self._wait_for = wait_for

    @property
    def has_files(self) -> bool:
        """Whether a table is a regular file, so that its progress can be stored."""
        return any(Path(file).is_file() for file in self._files)

    def count(self) -> int | None:
        """Return the number of rows if it is known."""
        from streamclust.tables import count_rows

        kind = self._options.get("kind")
        counts = [count_rows(file, kind=kind) for file in self._files]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def chunks(self, progress: Progress | None) -> Iterator[Chunk]:
        """Yield the chunks of all tables that aren't in the stream yet."""
        from streamclust.tables import SkippedRows

        for file in self._files:
            chunks, count = self._read(file), SkippedRows(warn)
            if progress is not None and Path(file).is_file():
                chunks = progress.rest(str(Path(file).resolve()), file, chunks)
            for chunk in chunks:
                count.add(chunk)
                yield chunk
            count.points += 0 if progress is None else progress.resumed
            count.report()

    def _read(self, file: str) -> Iterator[Chunk]:
        from streamclust.tables import ModelColumns, TableOptions, read_table

        on_bad = self._options.get("on_bad") or ("skip" if file == "-" else "stop")
        on_bad = "stop" if on_bad == "stop" else "skip"
        options = TableOptions(**self._options | {"on_bad": on_bad})
        size, wait_for = self._size, self._wait_for
        for chunk in read_table(
            file, options, chunk=size, model=self.model, warn=warn, wait_for=wait_for
        ):
            if self.model is None:
                owner, names = f"the first file, {file},", chunk.names
                self.model = ModelColumns(owner, names, len(names), exact=True)
            yield chunk
