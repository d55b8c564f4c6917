"""A model's keys on a server, and batches for the workers that learn it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import redis
import structlog
from pydantic import TypeAdapter
from structlog.testing import LogCapture

from streamclust.config import GaussianMixtureSettings, KMeansSettings, ModelSettings
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint
from streamclust.formats.dead import DeadLetters, DeadPoint
from streamclust.formats.layout import Layout
from streamclust.formats.model import Model
from streamclust.models import KMeans
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.store.model.state import read_state
from streamclust.store.model.versions import follow
from streamclust.store.stream.batches import Batch
from streamclust.worker.context import ModelContext
from streamclust.worker.model_worker import ModelWorker, open_model_worker
from tests.support.clock import Clock

Settings = KMeansSettings | GaussianMixtureSettings
ADAPTER: TypeAdapter[Settings] = TypeAdapter(ModelSettings)

LAYOUT = Layout("fields", None, None, ("x", "y"), 2, strict=True)
NEVER = {"points": 10**9, "every": "1d"}
GIVEN = {"kind": "parameters", "centroids": [[0, 0], [5, 5]], "weight": 10}


def a_batch(number: int, n: int = 30, **changes: Any) -> Batch:
    """The batch that ends with the entry `number`: two blobs, the same on every call."""
    rng = np.random.default_rng(number)
    X = rng.normal(size=(n, 2)) + rng.choice([0.0, 5.0], (n, 1))
    batch = Batch(X, None, {"points": f"{number}-0"}, LAYOUT, DeadLetters(), 1000.0 * number)
    return replace(batch, **changes)


def bad_batch(number: int, count: int, stream: str = "points") -> Batch:
    """A batch with nothing to learn."""
    letter = DeadPoint((stream, f"{number}-0"), -1, "no point", b"x")
    return a_batch(number, 0, dead=DeadLetters([letter] * count), position={stream: f"{number}-0"})


@dataclass
class WorkerFixture:
    """A model's keys, and the workers that learn it one after the other."""

    client: redis.Redis
    namespace: str
    clock: Clock = field(default_factory=Clock)
    logged: LogCapture = field(default_factory=LogCapture)

    @property
    def stream(self) -> str:
        """A points' stream; the batches of these tests come from elsewhere."""
        return f"{self.namespace}-points"

    @property
    def keys(self) -> Keys:
        return Keys(self.namespace, "m")

    def settings(self, kind: str = "kmeans", **more: Any) -> Settings:
        """A model of two components that commits and publishes when told, and no sooner."""
        basic = {
            "kind": kind,
            "n_clusters" if kind == "kmeans" else "n_components": 2,
            "streams": "points",
            "init": {"kind": "warm_up", "points": 60},
            "commit": NEVER,
            "publish": NEVER,
        }
        return ADAPTER.validate_python({**basic, **more})

    def learning(self, **more: Any) -> ModelWorker:
        """Take the lease, from whoever has it, and begin."""
        self.client.delete(self.keys.lease)
        lease = Lease(self.client, self.keys, 3600.0)
        assert lease.take()
        log = structlog.wrap_logger(structlog.PrintLogger(), [self.logged], structlog.BoundLogger)
        settings = self.settings(**more)
        context = ModelContext("m", settings, self.client, self.keys, log)
        return open_model_worker(context, lease.token, clock=self.clock)

    def committed(self) -> Checkpoint:
        found = read_state(self.client, self.keys)
        assert found is not None
        return decode_checkpoint(found.state, KMeans(2), "state", found.coreset)

    @property
    def versions(self) -> list[Model]:
        return list(follow(self.client, self.keys, 0))

    @property
    def reasons(self) -> list[str]:
        return [model.reason for model in self.versions]

    def said(self, event: str) -> list[Any]:
        return [entry for entry in self.logged.entries if entry["event"] == event]
