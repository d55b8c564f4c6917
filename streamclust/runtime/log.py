"""Structured logs on stderr: readable lines on a terminal, otherwise JSON.

Logging never ends a daemon or blocks it. A line that can't be written (the reader of a pipe has
left, the disk is full, stderr is closed) is dropped. A full pipe blocks one line for a second;
while the pipe stays full, further lines are dropped at once. After the next line that can be
written, another line reports the number of dropped lines.
"""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from streamclust.kernels import REMEDY, native_missing
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor

    from streamclust.store.stream.read_size import OnLess

_WAIT_SECONDS = 1.0
"""Seconds that the first line waits for space in a full pipe."""


def configure_log(level: str = "info", form: str = "auto") -> None:
    """Set the level, and the form: 'human', 'json', or 'auto' by whether stderr is a terminal."""
    processors = _processors(form)
    output = LogOutput(sys.stderr, processors)
    structlog.configure(
        processors=processors,
        wrapper_class=_filter(level),
        logger_factory=lambda *_: output,
    )


def command_log() -> FilteringBoundLogger:
    """Return a log for a command that isn't a daemon: warnings and errors only."""
    processors = _processors("auto")
    log: FilteringBoundLogger = structlog.wrap_logger(
        LogOutput(sys.stderr, processors),
        processors=processors,
        wrapper_class=_filter("warning"),
    )
    return log


def warn_of_less(log: FilteringBoundLogger) -> OnLess:
    """Return a function that logs that reads become smaller because replies were lost."""
    return lambda reason: log.warning("read_size_reduced", reason=reason)


def warn_of_slow_kernels(log: FilteringBoundLogger) -> None:
    """Log that NumPy does the work of the native kernels, if these can't be used."""
    if reason := native_missing():
        log.warning("native_kernels_missing", reason=reason, remedy=REMEDY)


class LogOutput:
    """Writes rendered lines to a stream, and never raises an error.

    Parameters
    ----------
    stream : TextIO or None
        None if the process was started without this stream.
    processors : sequence of structlog processors
        They render the line that reports the number of dropped lines.
    """

    def __init__(self, stream: TextIO | None, processors: Sequence[Processor] = ()) -> None:
        self._stream = stream
        self._processors = processors
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            self._fd = None if stream is None else stream.fileno()
        except (OSError, ValueError):  # a stream without a file descriptor
            self._fd = None
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False  # only a part of the last line was written
        self._full = False  # a line has waited for space, and the pipe is still full

    def msg(self, line: str) -> None:
        """Write a line, or drop it."""
        with self._lock:
            if not self._write(line):
                self._lost += 1
            elif self._lost:
                lost, self._lost = self._lost, 0
                notice: Any = {"event": "log_lines_lost", "count": lost}
                for processor in self._processors:
                    notice = processor(None, "warning", notice)
                if not self._write(str(notice)):
                    self._lost = lost

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg

    def _write(self, line: str) -> bool:
        """Write to the file descriptor: a stream could fail to flush its buffer at the exit."""
        if self._stream is None:
            return False
        if self._fd is None:
            try:
                print(line, file=self._stream, flush=True)
            except (OSError, ValueError):  # closed, or can't be encoded
                return False
            return True
        data = f"{line}\n".encode(self._encoding, "backslashreplace")
        whole = rest = (b"\n" + data) if self._torn else data
        deadline = time.monotonic() + _WAIT_SECONDS
        try:
            while rest and self._is_ready(deadline):
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]
        except OSError:
            pass
        if len(rest) < len(whole):
            self._torn = bool(rest)
        return not rest

    def _is_ready(self, deadline: float) -> bool:
        """Whether PIPE_BUF bytes can be written, or the write fails, without a wait."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)  # type: ignore[arg-type]
        remaining = 0.0 if self._full else max(deadline - time.monotonic(), 0.0)
        self._full = not poll.poll(1000.0 * remaining)
        return not self._full


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _filter(level: str) -> type[FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelName(level.upper()))


def _processors(form: str) -> list[Processor]:
    human = form == "human" or (form == "auto" and _is_terminal(sys.stderr))
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    if human:
        renderer = structlog.dev.ConsoleRenderer(
            colors=_is_terminal(sys.stderr), exception_formatter=_printable_traceback
        )
        return [*processors, _printable_values, renderer]
    return [
        *processors,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]


def _printable_traceback(output: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    output.write("\n".join(map(printable, text.getvalue().split("\n"))))


def _printable_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Make text fields printable for a terminal. JSON and `repr` escape the rest by themselves."""
    return {
        printable(name): printable(value) if isinstance(value, str) else value
        for name, value in event.items()
    }
