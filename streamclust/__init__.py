"""streamclust: streaming online clustering over Redis streams, and the library underneath.

Everything below the store can be used alone, without a server. Names are imported when they are
first used, so that ``import streamclust`` and ``streamclust --help`` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamclust.version import __version__

if TYPE_CHECKING:
    from streamclust.client.async_client import AsyncClient as AsyncClient
    from streamclust.client.client import Client as Client
    from streamclust.errors import StreamclustError as StreamclustError
    from streamclust.fitting.restarts import fit as fit
    from streamclust.models import GaussianMixture as GaussianMixture
    from streamclust.models import KMeans as KMeans
    from streamclust.models import KMeansParams as KMeansParams
    from streamclust.models import MixtureParams as MixtureParams
    from streamclust.models.stats import Stats as Stats
    from streamclust.online.forgetting import Forgetting as Forgetting
    from streamclust.online.forgetting import HalfLife as HalfLife
    from streamclust.online.forgetting import HalfLifeTime as HalfLifeTime
    from streamclust.online.forgetting import PowerSchedule as PowerSchedule
    from streamclust.online.learner import StreamLearner as StreamLearner
    from streamclust.store.published import Model as Model

_HOMES = {
    "AsyncClient": "streamclust.client.async_client",
    "Client": "streamclust.client.client",
    "Forgetting": "streamclust.online.forgetting",
    "GaussianMixture": "streamclust.models",
    "HalfLife": "streamclust.online.forgetting",
    "HalfLifeTime": "streamclust.online.forgetting",
    "KMeans": "streamclust.models",
    "Model": "streamclust.store.published",
    "KMeansParams": "streamclust.models",
    "MixtureParams": "streamclust.models",
    "PowerSchedule": "streamclust.online.forgetting",
    "Stats": "streamclust.models.stats",
    "StreamLearner": "streamclust.online.learner",
    "StreamclustError": "streamclust.errors",
    "fit": "streamclust.fitting.restarts",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamclust' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
