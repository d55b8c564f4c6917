"""streamclust: streaming online clustering over Redis streams, and the library underneath.

Everything below the store can be used alone, without a server. Names are imported when they are
first used, so that ``import streamclust`` and ``streamclust --help`` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamclust.version import __version__

if TYPE_CHECKING:
    from streamclust.async_client import AsyncClient as AsyncClient
    from streamclust.batch import fit as fit
    from streamclust.client import Client as Client
    from streamclust.errors import StreamclustError as StreamclustError
    from streamclust.forgetting import Forgetting as Forgetting
    from streamclust.forgetting import HalfLife as HalfLife
    from streamclust.forgetting import HalfLifeTime as HalfLifeTime
    from streamclust.forgetting import PowerSchedule as PowerSchedule
    from streamclust.models import GaussianMixture as GaussianMixture
    from streamclust.models import KMeans as KMeans
    from streamclust.models import KMeansParams as KMeansParams
    from streamclust.models import MixtureParams as MixtureParams
    from streamclust.online import StreamLearner as StreamLearner
    from streamclust.stats import Stats as Stats
    from streamclust.store.published import Model as Model

_HOMES = {
    "AsyncClient": "streamclust.async_client",
    "Client": "streamclust.client",
    "Forgetting": "streamclust.forgetting",
    "GaussianMixture": "streamclust.models",
    "HalfLife": "streamclust.forgetting",
    "HalfLifeTime": "streamclust.forgetting",
    "KMeans": "streamclust.models",
    "Model": "streamclust.store.published",
    "KMeansParams": "streamclust.models",
    "MixtureParams": "streamclust.models",
    "PowerSchedule": "streamclust.forgetting",
    "Stats": "streamclust.stats",
    "StreamLearner": "streamclust.online",
    "StreamclustError": "streamclust.errors",
    "fit": "streamclust.batch",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamclust' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
