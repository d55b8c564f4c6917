"""Readers of tables of numbers in files or on stdin, in chunks, so that any size fits in memory."""

from streamclust.tables.chunk import Chunk
from streamclust.tables.read import KINDS, Kind, count_rows, read_table

__all__ = ["KINDS", "Chunk", "Kind", "count_rows", "read_table"]
