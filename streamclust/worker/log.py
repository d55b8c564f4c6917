"""Structured logs on stderr: lines for a person on a terminal, JSON for everything else."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_log(level: str = "info", form: str = "auto") -> None:
    """Set the level, and the form: 'human', 'json', or 'auto' by whether stderr is a terminal."""
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    if human:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
