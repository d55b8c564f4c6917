"""Finds the models of templates: the streams that match, and the names of their models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from streamclust.config.placeholders import has_placeholder
from streamclust.store.model.keys import Keys, is_own
from streamclust.store.server.round_trip import round_trip
from streamclust.store.stream.discovery import find_streams
from streamclust.store.stream.keys import is_dead_key
from streamclust.text import is_pattern, matching

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from streamclust.config import Settings
    from streamclust.config.templates import Models, Template

_REMEMBERED, _AT_LEAST = 10, 10_000
"""The maximum number of remembered streams is max(_REMEMBERED x max_models, _AT_LEAST)."""


@dataclass
class SearchResult:
    """The result of a search.

    Parameters
    ----------
    models : list of str
        Names; at most `max_models`.
    over_limit : list of str
        Names of the models beyond `max_models`.
    left_out : dict of str to str
        Why a stream has no model, by its name.
    """

    models: list[str] = field(default_factory=list)
    over_limit: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


class Search:
    """Searches a server for the streams of one template, as often as `run` is called.

    Parameters
    ----------
    template : Template
    models : Models
        All models of the settings. A stream whose model would have the name of another model is
        left out.
    namespace : str
    """

    def __init__(self, template: Template, models: Models, namespace: str) -> None:
        self.template = template
        self._models = models
        self._namespace = namespace
        self._known: dict[bytes, tuple[str, str]] = {}  # the name of the model, or why it has none

    def run(
        self, client: redis.Redis, running: Collection[str] = ()
    ) -> Iterator[SearchResult | None]:
        """Search once: yield None after each round trip, and the result at the end.

        If there are more streams than `max_models`, running models come first, then models with a
        state on the server, then the others by name.
        """
        limit = self.template.settings.max_models
        most = max(_REMEMBERED * limit, _AT_LEAST)
        known: dict[bytes, tuple[str, str]] = {}
        for glob in dict.fromkeys(stream.glob for stream in self.template.streams):
            for keys in find_streams(client, glob):
                for key in keys:
                    if len(known) < most:
                        known[key] = self._known.get(key) or self._name_of(key)
                yield None
        self._known = known
        names = sorted({name for name, _ in known.values() if name})
        if len(names) > limit:
            names = self._by_rank(names, client, running)
        left_out = {_text(key): why for key, (_, why) in known.items() if why}
        yield SearchResult(names[:limit], names[limit:], left_out)

    def _name_of(self, key: bytes) -> tuple[str, str]:
        """Return the name of a stream's model, or why it has none; "", "" if it doesn't match."""
        text = _text(key)
        if is_own(text) or is_dead_key(text):
            return "", ""
        try:
            stream = key.decode()
            for name in self.template.names_of(stream):
                other = self._models.template_of(name)
                if other is self.template:
                    return name, ""
                if stream not in self._models[name].streams:
                    return "", f"its model would have the name of another model, {name}"
        except UnicodeDecodeError:
            return "", "its name isn't UTF-8"
        except ValueError as error:
            return "", str(error)
        return "", ""

    def _by_rank(
        self, names: list[str], client: redis.Redis, running: Collection[str]
    ) -> list[str]:
        tokens = [Keys(self._namespace, name).token for name in names]
        exist = round_trip(client, [(token, ("EXISTS", token)) for token in tokens])
        for reply in exist:
            if isinstance(reply, redis.RedisError):
                raise reply
        stored = dict(zip(names, exist, strict=True))
        return sorted(names, key=lambda name: (name not in running, not stored[name], name))


def found_models(settings: Settings, client: redis.Redis) -> list[str]:
    """Return the names of all models of the settings, with those of templates, sorted."""
    names = set(settings.models.keys())
    for template in settings.models.templates:
        for found in Search(template, settings.models, settings.namespace).run(client):
            if found is not None:
                names.update(found.models)
    return sorted(names)


def selects_several(name: str, settings: Settings) -> bool:
    """Return whether an argument is a pattern or a template, which selects several models."""
    return is_pattern(name) or (has_placeholder(name) and name in settings.models.entries)


def select_names(names: Iterable[str], selector: str, settings: Settings) -> list[str]:
    """Return the names of models that a pattern or a template selects, sorted."""
    if is_pattern(selector):
        return matching(names, [selector])
    templates = ((name, settings.models.template_of(name)) for name in names)
    return sorted(name for name, each in templates if each and each.name.text == selector)


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
