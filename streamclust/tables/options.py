"""The options of a table: its format, its columns, and the handling of bad rows."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal, get_args

from streamclust.arrays import Missing
from streamclust.errors import DataError

Kind = Literal["csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TEXT_KINDS: tuple[Kind, ...] = ("csv", "tsv", "jsonl", "ndjson")

OnBad = Literal["stop", "skip"]

ONE_DOCUMENT = "one line is one point; `jq -c '.[]'` converts an array of points"
"""End of errors for a file that is one JSON document."""


@dataclass(frozen=True)
class TableOptions:
    r"""How to read a table. Options without a value are detected from the file.

    Parameters
    ----------
    kind
        Format of the file. None: by the suffix; CSV for stdin.
    key
        Name of the array in an .npz file with several arrays.
    columns
        The columns of X, in this order; None for all except those that other options name.
    exclude
        Columns that aren't read.
    weight_column
        The column of the weights.
    label_columns
        Columns of text that belong to each point, such as a host.
    time_column
        The column of the event time.
    time_format
        Format of the event times: "s", "ms", "us" or "ns" since 1970, "iso" (ISO 8601), or a format
        of `datetime.strptime`. None: by the first value.
    delimiter
        Separator of the cells of CSV, one character. None: a tab for TSV, a semicolon if the
        decimal point is a comma, else a comma.
    decimal
        Decimal point of CSV: "." or ",".
    header
        Whether the first row of CSV has the names of the columns. None: by the row itself.
    encoding
        Encoding of a text. None: the encoding of its byte-order mark, or UTF-8 without a mark.
    on_bad
        "stop" raises an error at the first bad row; "skip" reports bad rows and continues.
    missing
        "reject": a row with a missing value is bad. "learn": a missing value becomes NaN. A row
        without any value is always bad.

    Raises
    ------
    DataError
        If a value isn't allowed.
    """

    kind: Kind | None = None
    key: str | None = None
    columns: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    weight_column: str | None = None
    label_columns: tuple[str, ...] = ()
    time_column: str | None = None
    time_format: str | None = None
    delimiter: str | None = None
    decimal: str = "."
    header: bool | None = None
    encoding: str | None = None
    on_bad: OnBad = "stop"
    missing: Missing = "reject"

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise DataError(f"delimiter is {self.delimiter!r}; expected one character, such as ;")
        if self.decimal not in (".", ","):
            raise DataError(f"decimal is {self.decimal!r}; expected . or ,")
        if self.decimal == self.delimiter:
            raise DataError(
                f"delimiter and decimal are both {self.decimal!r}; choose two characters, such as "
                "; and ,"
            )
        if self.encoding is not None:
            check_encoding(self.encoding)


def check_encoding(name: str) -> None:
    """Refuse an encoding that Python doesn't have, or that isn't an encoding of text."""
    try:
        is_text = codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise DataError(
            f"encoding {name!r} is unknown; expected utf-8, utf-16, latin-1, cp1252, ..."
        )
