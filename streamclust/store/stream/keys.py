"""Keys beside a points' stream: the type, writer, readers and lifetime of each key.

They are in the slot of the stream, so that one transaction can write them and the points.
"""

from __future__ import annotations


def progress_key(stream: str) -> str:
    """Hash. Path of a file -> how much of it is in the stream, as JSON.

    Written by `ingest` in one transaction with the points; read by `ingest` at its start. Deleted
    when a run has sent all its files; else it expires after 30 days.

    Examples
    --------
    >>> progress_key("points"), progress_key("{shop}:points")
    ('{points}:ingest', '{shop}:points:ingest')
    """
    return f"{_tagged(stream)}:ingest"


def dead_key(stream: str) -> str:
    """Stream. Bad rows of files: the fields ``file``, ``line``, ``reason``, ``data``.

    Written by ``ingest --on-bad dead``; read by ``dead --ingest``. Trimmed to about 10,000 rows.
    The key belongs to the points' stream and not to a model: a file is sent once for all models.
    """
    return f"{_tagged(stream)}:ingest:dead"


def is_dead_key(key: str) -> bool:
    """Return whether a key is that of bad rows, of any stream.

    Examples
    --------
    >>> is_dead_key(dead_key("points")), is_dead_key("points:ingest:dead")
    (True, False)
    """
    return key.endswith(":ingest:dead") and "}" in key


def _tagged(stream: str) -> str:
    start = stream.find("{")
    has_tag = start >= 0 and stream.find("}", start) > start + 1
    return stream if has_tag or "}" in stream else f"{{{stream}}}"
