"""A file that a command writes: it doesn't replace another file by accident."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from streamclust.text import printable

if TYPE_CHECKING:
    from pathlib import Path


def check_new(path: Path, *, force: bool) -> None:
    """Ask before an existing file is replaced, or refuse without a terminal."""
    from streamclust.errors import DataError

    if not path.exists() or force:
        return
    question = f"{printable(str(path))} exists; replace it?"
    if not (sys.stdin.isatty() and click.confirm(question, err=True)):
        raise DataError(f"{path} exists; replace it with --force, or name another file with --out")
