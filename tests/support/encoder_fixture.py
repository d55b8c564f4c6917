"""Feeds to encode, a model for them, and encoders in threads of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import redis
import structlog

from streamclust.config import load_settings
from streamclust.encoder.job import Tally
from streamclust.encoder.loop import run_encoder
from streamclust.encoder.roster import encoder_jobs
from streamclust.formats.codes import CodedEntry, decode_fields
from streamclust.formats.model import Model, encode_model
from streamclust.models import KMeans, KMeansParams
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Server
from streamclust.store.stream.group import GroupMember
from streamclust.store.stream.read_size import ReadSize
from tests.support.commits import take

CENTROIDS = np.array([[-10.0, -10.0], [0.0, 0.0], [10.0, 10.0]])


def model_of(
    version: int, centroids: Any = CENTROIDS, features: tuple[str, ...] = (), **more: Any
) -> Model:
    K = len(centroids)
    params = KMeansParams(np.asarray(centroids, np.float64))
    model = Model("m", version, "step", KMeans(K), params, np.ones(K), {}, 100, 0.5, None, features)
    return replace(model, **more)


@dataclass
class EncoderFixture:
    """The streams of one test, and who encodes them."""

    server: Server
    client: redis.Redis
    namespace: str
    streams: tuple[str, ...] = ("points",)
    encode: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.streams = tuple(f"{self.namespace}-{name}" for name in self.streams)
        self.keys = Keys(self.namespace, "m")
        self._token = take(self.client, self.keys)

    @property
    def stream(self) -> str:
        return self.streams[0]

    def publish(self, version: int, *, model_id: int = 0, **how: Any) -> None:
        model = model_of(version, **how)
        what = Commit(self._token, b"s", model, encode_model(model), model_id=model_id)
        commit(self.client, self.keys, what)

    def begin_anew(self, version: int, **how: Any) -> None:
        """Delete the model, and publish another one under its name."""
        self.client.delete(self.keys.state, self.keys.models)
        self.publish(version, **how)

    def jobs(self, stop: threading.Event, until_idle: bool = True) -> list[Any]:
        settings = {
            "kind": "kmeans",
            "n_clusters": 3,
            "streams": list(self.streams),
            "encode": {"takeover": "50ms", **self.encode},
            "batch": {"size": 20},
            **self.more,
        }
        given = {"namespace": self.namespace, "models": {"m": settings}}
        import json

        flags = {name: json.dumps(value) for name, value in given.items() if name == "models"}
        loaded = load_settings(None, {**flags, "namespace": self.namespace}, {})
        log = structlog.get_logger()
        return encoder_jobs(loaded, self.server, "m", stop, until_idle, log)

    def drain(self) -> list[Tally]:
        """Encode all that is there."""
        return [run_encoder(job) for job in self.jobs(threading.Event())]

    @contextmanager
    def encoding(self) -> Iterator[threading.Event]:
        """An encoder in the background, which is asked to leave at the end of the block."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=run_encoder, args=(job,))
            for job in self.jobs(stop, until_idle=False)
        ]
        for thread in threads:
            thread.start()
        try:
            yield stop
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def sleeper(self) -> GroupMember:
        """A member of the encoders' group that takes entries and does nothing with them."""
        member = GroupMember(
            self.server.raw_client(), self.stream, self.keys.encoders, ReadSize(most=10)
        )
        member.join("0")
        return member

    def codes(self, stream: str | None = None) -> list[CodedEntry]:
        key = self.keys.codes(stream)
        entries: Any = self.client.xrange(key)
        return [decode_fields(entry_id.decode(), fields, key) for entry_id, fields in entries]

    def ids(self, key: str) -> list[str]:
        entries: Any = self.client.xrange(key)
        return [entry_id.decode() for entry_id, _ in entries]

    @property
    def waits(self) -> int:
        """How many clients wait in a blocking command."""
        return int(self.client.info("clients")["blocked_clients"])
