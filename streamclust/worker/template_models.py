"""The models of one template in a worker; each stream that matches adds a model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from streamclust.config.values import format_duration
from streamclust.errors import UnknownStreamError
from streamclust.runtime.discovery import Search, SearchResult
from streamclust.runtime.scheduler import Wait
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.config.templates import Template

_SHOWN, _LONGEST = 10, 100
"""Names per log line, and characters per name."""


class TemplateModels:
    """The models of one template that run here.

    Parameters
    ----------
    template : Template
    settings : Settings
    until_idle : bool
        Whether there is only one search.
    log : structlog logger

    Attributes
    ----------
    running : set of str
        Names of the models.
    due : float
        When to search again, by the monotonic clock.
    """

    def __init__(
        self, template: Template, settings: Settings, until_idle: bool, log: FilteringBoundLogger
    ) -> None:
        self.template = template
        self.running: set[str] = set()
        self.due = 0.0
        self._search = Search(template, settings.models, settings.namespace)
        self._log = log.bind(template=template.name.text)
        self._left_out: set[str] = set()
        self._is_limited, self._is_awaited = False, until_idle

    def search(self, client: redis.Redis) -> Generator[Wait, None, tuple[list[str], list[str]]]:
        """Search the server once; return the models to add, and those to remove.

        A model whose stream was deleted continues to run, and isn't counted in `max_models`.
        """
        found = SearchResult()
        for step in self._search.run(client, self.running):
            if step is None:
                yield Wait(time.monotonic())  # models that have waited longer come first
            else:
                found = step
        self.due = time.monotonic() + float(self.template.settings.discover)
        added = [name for name in found.models if name not in self.running]
        removed = sorted(self.running & set(found.over_limit))
        self.running = self.running.union(added).difference(removed)
        self._report(found, added)
        return added, removed

    def refuse_missing(self, label: str) -> None:
        """Raise an error if no stream has matched.

        Raises
        ------
        UnknownStreamError
        """
        if not self.running:
            name = self.template.name.text
            raise UnknownStreamError(f"models.{name}.streams: {self._missing()} on {label}")

    def _report(self, found: SearchResult, added: list[str]) -> None:
        if added:
            self._log.info("models_discovered", count=len(added), models=first_names(added))
        elif not self.running and not self._is_awaited:
            every = format_duration(float(self.template.settings.discover))
            reason = f"{self._missing()} yet; searching every {every}"
            self._log.warning("streams_awaited", reason=reason)
            self._is_awaited = True
        if found.over_limit and not self._is_limited:
            self._log.warning(
                "models_limited",
                max_models=self.template.settings.max_models,
                left_out=len(found.over_limit),
                models=first_names(found.over_limit),
                remedy="raise max_models, or narrow the pattern of the streams",
            )
        self._is_limited = bool(found.over_limit)
        new = [stream for stream in found.left_out if stream not in self._left_out]
        if new:
            self._left_out = set(found.left_out)
            reasons = first_names(
                f"{stream[:_LONGEST]}: {found.left_out[stream]}" for stream in new
            )
            self._log.warning("streams_left_out", count=len(new), reasons=reasons)

    def _missing(self) -> str:
        patterns = " or ".join(stream.text for stream in self.template.streams)
        return f"no stream matches {patterns}"


def first_names(names: Iterable[str]) -> list[str]:
    """Return the first names, for a line of the log."""
    return [printable(name) for _, name in zip(range(_SHOWN), names, strict=False)]
