"""Structured logs on stderr: lines for a person on a terminal, JSON for everything else."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from streamclust.store.read_size import OnLess


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


def warn_of_less(log: FilteringBoundLogger) -> OnLess:
    """Return what logs that reads ask for less, since replies were lost."""
    return lambda reason: log.warning("asking for less", reason=reason)


def _filter(level: str) -> type[FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelName(level.upper()))


def _processors(form: str) -> list[Processor]:
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    if human:
        return [*processors, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [
        *processors,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
