"""Readers of tables of numbers in files or on stdin, in chunks, for tables of any size."""

from streamclust.tables.chunk import BadRow, Chunk, ModelColumns, SkippedRows
from streamclust.tables.options import KINDS, Kind, TableOptions
from streamclust.tables.profile import Column
from streamclust.tables.read import count_rows, read_table
from streamclust.tables.sniff import Sniffed, sniff

__all__ = [
    "KINDS",
    "BadRow",
    "Chunk",
    "Column",
    "Kind",
    "ModelColumns",
    "SkippedRows",
    "Sniffed",
    "TableOptions",
    "count_rows",
    "read_table",
    "sniff",
]
