"""Structured logs on stderr: lines for a person on a terminal, JSON for everything else."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING

import structlog

from streamclust.text import printable

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor


def configure_log(level: str = "info", form: str = "auto") -> None:
    """Set the level, and the form: 'human', 'json', or 'auto' by whether stderr is a terminal."""
    structlog.configure(
        processors=_processors(form),
        wrapper_class=_filter(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def command_log() -> FilteringBoundLogger:
    """Return a log for a command that isn't a daemon: what a person should know, and no more."""
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=_processors("auto"),
        wrapper_class=_filter("warning"),
    )
    return log


def _filter(level: str) -> type[FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelName(level.upper()))


def _processors(form: str) -> list[Processor]:
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    if human:
        return [*processors, _printable_values, _console_renderer()]
    return [
        *processors,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]


def _console_renderer() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=_printable_traceback
    )


def _printable_traceback(output: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    output.write("\n".join(map(printable, text.getvalue().split("\n"))))


def _printable_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Make what a person sees printable; JSON escapes by itself, and `repr` what isn't text."""
    return {
        printable(name): printable(value) if isinstance(value, str) else value
        for name, value in event.items()
    }
