"""streamclust: streaming online clustering over Redis streams.

The library also runs without a server. Each name is imported at its first use, so that
``import streamclust`` and ``streamclust --help`` stay fast.
"""

from __future__ import annotations

from streamclust.version import __version__ as __version__

TYPE_CHECKING = False  # importing it would take most of the time of this module
if TYPE_CHECKING:
    from streamclust.client.async_client import AsyncClient as AsyncClient
    from streamclust.client.client import Client as Client
    from streamclust.client.sending import IngestReport as IngestReport
    from streamclust.errors import BusyError as BusyError
    from streamclust.errors import ClientClosedError as ClientClosedError
    from streamclust.errors import ConfigError as ConfigError
    from streamclust.errors import DataError as DataError
    from streamclust.errors import FormatError as FormatError
    from streamclust.errors import MissingExtraError as MissingExtraError
    from streamclust.errors import NotPermittedError as NotPermittedError
    from streamclust.errors import ServerError as ServerError
    from streamclust.errors import ServerUnreachableError as ServerUnreachableError
    from streamclust.errors import StreamclustError as StreamclustError
    from streamclust.errors import TooFewPointsError as TooFewPointsError
    from streamclust.errors import UnknownModelError as UnknownModelError
    from streamclust.errors import UnknownStreamError as UnknownStreamError
    from streamclust.errors import UnlearnableError as UnlearnableError
    from streamclust.fitting.em import EMResult as EMResult
    from streamclust.fitting.fit import fit as fit
    from streamclust.formats.alerts import Alert as Alert
    from streamclust.formats.alerts import FeatureShare as FeatureShare
    from streamclust.formats.model import Model as Model
    from streamclust.models import Family as Family
    from streamclust.models import GaussianMixture as GaussianMixture
    from streamclust.models import KMeans as KMeans
    from streamclust.models import KMeansParams as KMeansParams
    from streamclust.models import MixtureParams as MixtureParams
    from streamclust.models.attribution import Attribution as Attribution
    from streamclust.models.codebook import CodebookHealth as CodebookHealth
    from streamclust.models.codebook import VersionMap as VersionMap
    from streamclust.models.feature_distribution import FeatureDistribution as FeatureDistribution
    from streamclust.models.quantize import Codes as Codes
    from streamclust.models.quantize import quantize as quantize
    from streamclust.models.score_distribution import ScoreDistribution as ScoreDistribution
    from streamclust.models.stats import Stats as Stats
    from streamclust.online.drift import Drift as Drift
    from streamclust.online.forgetting import Forgetting as Forgetting
    from streamclust.online.forgetting import HalfLife as HalfLife
    from streamclust.online.forgetting import HalfLifeTime as HalfLifeTime
    from streamclust.online.forgetting import PowerSchedule as PowerSchedule
    from streamclust.online.learner import StreamLearner as StreamLearner
    from streamclust.online.scores import Anomaly as Anomaly
    from streamclust.online.state import Info as Info
    from streamclust.online.state import LearnerState as LearnerState
    from streamclust.store.model.pause import Pause as Pause

_MODULES = {
    "client.async_client": ("AsyncClient",),
    "client.client": ("Client",),
    "client.sending": ("IngestReport",),
    "errors": (
        "BusyError",
        "ClientClosedError",
        "ConfigError",
        "DataError",
        "FormatError",
        "MissingExtraError",
        "NotPermittedError",
        "ServerError",
        "ServerUnreachableError",
        "StreamclustError",
        "TooFewPointsError",
        "UnknownModelError",
        "UnknownStreamError",
        "UnlearnableError",
    ),
    "fitting.em": ("EMResult",),
    "fitting.fit": ("fit",),
    "formats.alerts": ("Alert", "FeatureShare"),
    "formats.model": ("Model",),
    "models": ("Family", "GaussianMixture", "KMeans", "KMeansParams", "MixtureParams"),
    "models.attribution": ("Attribution",),
    "models.codebook": ("CodebookHealth", "VersionMap"),
    "models.feature_distribution": ("FeatureDistribution",),
    "models.quantize": ("Codes", "quantize"),
    "models.score_distribution": ("ScoreDistribution",),
    "models.stats": ("Stats",),
    "online.drift": ("Drift",),
    "online.forgetting": ("Forgetting", "HalfLife", "HalfLifeTime", "PowerSchedule"),
    "online.learner": ("StreamLearner",),
    "online.scores": ("Anomaly",),
    "online.state": ("Info", "LearnerState"),
    "store.model.pause": ("Pause",),
}
"""Module -> its public names; a test compares it with the imports above."""

_MODULE_OF = {name: f"streamclust.{module}" for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'streamclust' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
