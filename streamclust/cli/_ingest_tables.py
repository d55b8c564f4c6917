"""The tables that ``ingest`` sends: their columns, and their rows that no earlier run sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamclust.cli._options import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.client.progress import Progress
    from streamclust.config import ModelSettings, Settings
    from streamclust.formats.layout import EntryFormat
    from streamclust.tables import Chunk, ModelColumns


CHUNK = 8192
"""Points per chunk, approximately: chunks have full blocks."""


class IngestTables:
    """The tables of one run; each must have the columns of the first one, in any order.

    Parameters
    ----------
    files
        The files, or "-".
    options
        Keywords of `TableOptions`; None for a default.
    settings, stream
        The models of the settings that read the stream decide about missing values, if the options
        don't, and about the features, if the entries have no names.
    entry_format, block
        Format of the entries and points per entry.
    wait_for
        See `read_table`.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        options: dict[str, Any],
        settings: Settings,
        stream: str,
        entry_format: EntryFormat,
        block: int,
        wait_for: Callable[[int], None],
    ) -> None:
        models = list(settings.models.reading(stream))
        given = {name: value for name, value in options.items() if value is not None}
        if any(model.points.missing == "learn" for _, model in models):
            given.setdefault("missing", "learn")
        self.model = _columns_of(models) if entry_format != "fields" else None
        if entry_format == "fields" and options["label_columns"]:
            for name, model in models:
                if not model.points.features:
                    warn(
                        f"model {name!r} can't read entries with labels yet: name its features in "
                        f"models.{name}.points.features"
                    )
        self._files = files
        self._options = given
        self._size = max(CHUNK // block, 1) * block
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
                chunks = progress.unsent_chunks(str(Path(file).resolve()), file, chunks)
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


def _columns_of(models: list[tuple[str, ModelSettings]]) -> ModelColumns | None:
    """Return the features that the models of a stream have; None if unknown, or if they differ."""
    from streamclust.tables import ModelColumns

    found = {model.points.features: name for name, model in models if model.points.features}
    if len(found) != 1:
        return None
    ((features, name),) = found.items()
    return ModelColumns(f"model {name!r}", features, len(features))
