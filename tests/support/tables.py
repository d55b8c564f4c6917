"""Tables read in one go, and the one line that refuses a table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.tables import BadRow, Chunk, ModelColumns, TableOptions, read_table


class Table(NamedTuple):
    """All chunks of a table as one."""

    names: tuple[str, ...]
    X: list[list[float]]
    chunks: list[Chunk]
    warnings: list[str]

    @property
    def labels(self) -> dict[str, list[str]]:
        names = self.chunks[0].labels
        return {
            name: [text for each in self.chunks for text in each.labels[name]] for name in names
        }

    @property
    def times(self) -> list[int]:
        times: list[NDArray[Any]] = [each.times for each in self.chunks if each.times is not None]
        return np.concatenate(times).tolist()  # type: ignore[no-any-return]

    @property
    def bad(self) -> list[BadRow]:
        return [row for each in self.chunks for row in each.bad]


def read(
    path: Path | str,
    content: str | bytes | None = None,
    *,
    model: ModelColumns | None = None,
    chunk: int = 8192,
    **options: Any,
) -> Table:
    """Read a file, after writing the content if it is given."""
    if content is not None:
        data = content.encode() if isinstance(content, str) else content
        Path(path).write_bytes(data)
    for name in {"columns", "exclude", "label_columns"} & options.keys():
        options[name] = tuple(options[name])
    warnings: list[str] = []
    found = read_table(
        path, TableOptions(**options), model=model, chunk=chunk, warn=warnings.append
    )
    chunks = list(found)
    names = chunks[0].names if chunks else ()
    return Table(names, [row for each in chunks for row in each.X.tolist()], chunks, warnings)


def refusal(path: Path | str, content: str | bytes | None = None, **options: Any) -> str:
    """Return the error of a table, without the folder of the file."""
    with pytest.raises(DataError) as caught:
        read(path, content, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{Path(path).parent}{os.sep}", "")
