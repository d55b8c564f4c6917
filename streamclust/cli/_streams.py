"""Standard input, output and error of the command line: open, and of any encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from typing import Any

from streamclust.cli._render import say
from streamclust.text import BAR_LEVELS, printable


def show_warnings_in_one_line() -> None:
    """Print warnings of streamclust in the form of an error; those of others as Python does."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__module__.startswith("streamclust"):
            say(f"warning: {printable(str(message))}")
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = show


def prepare_streams() -> None:
    """Make sure that standard input, output and error are open and accept any text.

    If one of them was closed at the start, a socket or a file would get its number and receive its
    output. Characters that the encoding of a stream doesn't have are written in ASCII.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8", closefd=False))
    codecs.register_error("streamclust", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="streamclust")


_ASCII = str.maketrans(
    dict(zip(BAR_LEVELS, "_.:-=+*#", strict=True))
    | {"…": "...", "→": "->", "←": "<-", "×": "x", "·": ".", "─": "-", "━": "-", "│": "|"}
)


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what a terminal's encoding lacks: bars and arrows by ASCII, the rest by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end
