"""Thousands of models on a server, written with the encoders of the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import redis

from streamclust import KMeans
from streamclust.formats.checkpoint import Checkpoint, encode_commit
from streamclust.formats.model import Model, encode_model
from streamclust.models import KMeansParams
from streamclust.online.learner import StreamLearner
from streamclust.store.model.health import Health, encode_health
from streamclust.store.model.keys import Keys

FAMILY = KMeans(2)
_POINTS = np.array([[-5.0, 0.0], [5.0, 0.0], [-5.0, 1.0], [5.0, 1.0]])


def stream_of(namespace: str, name: str) -> str:
    return f"{namespace}-{name}"


def fill(
    client: redis.Redis,
    namespace: str,
    names: list[str],
    health: Callable[[str], Health | None] = lambda _: None,
    waiting: Callable[[str], int] = lambda _: 0,
) -> None:
    """Write a learned model for each name, with a stream of which entries wait to be learned.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    names : list of str
    health : callable
        Returns the report of the worker of a model; None if it has none.
    waiting : callable
        Returns the lag of a model.
    """
    learner = StreamLearner(FAMILY)
    state, _ = learner.update(learner.init(), np.tile(_POINTS, (500, 1)))
    model = Model(
        name="m",
        version=1,
        reason="start",
        family=FAMILY,
        params=KMeansParams(np.array([[-5.0, 0.5], [5.0, 0.5]])),
        mass=np.array([200.0, 200.0]),
        position={},
        points=2000,
        loss=0.25,
        time_ms=None,
    )
    for start in range(0, len(names), 500):
        pipe: Any = client.pipeline(transaction=False)
        for name in names[start : start + 500]:
            keys, stream = Keys(namespace, name), stream_of(namespace, name)
            position = {stream: "1-0"}
            checkpoint = Checkpoint(state, position, version=1, read={stream: 1})
            commit = encode_commit(checkpoint, FAMILY, None)
            pipe.set(keys.state, commit.state)
            payload = encode_model(replace(model, name=name, position=position))
            pipe.xadd(keys.models, {"payload": payload, "time": 1_700_000_000_000}, id="1-0")
            for number in range(1 + waiting(name)):
                pipe.xadd(stream, {"x0": number, "x1": 0}, id=f"{number + 1}-0")
            report = health(name)
            if report is not None:
                pipe.set(keys.health, encode_health(report))
        pipe.execute()
