"""The overviews of models under some settings: their names, their groups, and their figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from streamclust.runtime.assemble import warm_up_points
from streamclust.runtime.discovery import found_models
from streamclust.store.model import read_overviews as reader
from streamclust.store.model.versions import model_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from streamclust.config import Settings
    from streamclust.config.model import ModelSettings
    from streamclust.store.model.overview import Overview

T = TypeVar("T")


def group_of(settings: Settings) -> Callable[[str], str]:
    """Return a function from the name of a model to its group: its template, or else itself."""

    def group(name: str) -> str:
        template = settings.models.template_of(name)
        return name if template is None else template.name.text

    return group


def all_names(settings: Settings, client: redis.Redis) -> set[str]:
    """Return all models that the settings name, that exist, or whose streams match a template."""
    return {*found_models(settings, client), *model_names(client, settings.namespace)}


class _Settings(Mapping[str, T]):
    """A value of the settings of each model, also of the models of templates, computed on demand.

    Parameters
    ----------
    settings : Settings
    value_of : callable
        Returns the value, given the settings of a model.
    """

    def __init__(self, settings: Settings, value_of: Callable[[ModelSettings], T]) -> None:
        self._models = settings.models
        self._value_of = value_of

    def __getitem__(self, name: str) -> T:
        return self._value_of(self._models[name])

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def read_overviews(
    client: redis.Redis, settings: Settings, names: Sequence[str]
) -> Iterator[Overview]:
    """Yield the overviews of these models.

    Raises
    ------
    UnknownModelError
        If neither the settings nor the server have a model.
    """
    configured = _Settings(settings, lambda model: model.streams)
    warm_ups = _Settings(settings, warm_up_points)
    yield from reader.read_overviews(client, settings.namespace, configured, names, warm_ups)
