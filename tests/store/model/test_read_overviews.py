"""Overviews of many models: few round trips, and only what is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import redis

from streamclust import GaussianMixture, KMeans
from streamclust.errors import UnknownModelError
from streamclust.formats.checkpoint import Checkpoint, encode_checkpoint
from streamclust.formats.model import Model, encode_model
from streamclust.formats.model_head import ModelHead
from streamclust.models import Family, KMeansParams
from streamclust.online.learner import StreamLearner
from streamclust.store.model.keys import Keys
from streamclust.store.model.overview import Overview
from streamclust.store.model.read_overviews import read_overviews
from streamclust.store.model.versions import read_model
from tests.support.many_models import fill, stream_of
from tests.support.servers import limited_replies
from tests.support.states import a_model

POINTS = 2000
"""So many points of a warm-up that the state isn't read whole."""

K = 3000
"""So many components that a version isn't read whole."""


def overviews(client: redis.Redis, namespace: str) -> dict[str, Overview]:
    return {row.name: row for row in read_overviews(client, namespace, {})}


@pytest.fixture
def large(client: redis.Redis, namespace: str) -> Model:
    """A large version and a large state, which covers one of the two entries of the stream."""
    keys, family = Keys(namespace, "large"), KMeans(K)
    params, mass = KMeansParams(np.arange(3.0 * K).reshape(K, 3)), np.linspace(1.0, 9.0, K)
    model = a_model(family, version=1, params=params, mass=mass)
    fields: Any = {"payload": encode_model(model), "model_id": "7", "time": "1700000000000"}
    client.xadd(keys.models, fields, id="1-0")
    learner = StreamLearner(family)
    state, _ = learner.update(learner.init(), np.random.default_rng(0).normal(size=(POINTS, 3)))
    stream = stream_of(namespace, "large")
    for number in (1, 2):
        client.xadd(stream, {"x": number}, id=f"{number}-0")
    checkpoint = Checkpoint(state, {stream: "1-0"}, version=1, read={stream: 1})
    client.set(keys.state, encode_checkpoint(checkpoint, family))
    return read_model(client, keys)


@pytest.mark.every_server
def test_of_large_values_only_the_headers_are_read(
    client: redis.Redis, namespace: str, large: Model
) -> None:
    sent = client.info("stats")["total_net_output_bytes"]
    row = overviews(client, namespace)["large"]
    assert client.info("stats")["total_net_output_bytes"] - sent < K * 8 + 40_000
    assert isinstance(row.model, ModelHead)
    assert row.model.summary() == large.summary()
    assert list(row.model.summary())[:4] == list(large.summary())[:4]
    assert (row.model.shape, row.model.score_name) == (large.shape, large.score_name)
    assert (row.model.published_ms, row.model.mass.tolist()) == (
        large.published_ms,
        large.mass.tolist(),
    )
    assert (row.lag, row.warm_up, row.troubles) == (1, (POINTS, 0), ())


def newest(client: redis.Redis, keys: Keys) -> Any:
    return client.xrevrange(keys.models, count=1)


def cut(client: redis.Redis, keys: Keys) -> str:
    value: Any = client.get(keys.state)
    client.set(keys.state, value[:-1])
    return keys.state


def cut_header(client: redis.Redis, keys: Keys) -> str:
    client.set(keys.state, b"\xff" * 20_000)
    return keys.state


def cut_version(client: redis.Redis, keys: Keys) -> str:
    [(_, fields)] = newest(client, keys)
    client.xadd(keys.models, {"payload": fields[b"payload"][:-1]}, id="2-0")
    return keys.models


def other_id(client: redis.Redis, keys: Keys) -> str:
    [(_, fields)] = newest(client, keys)
    client.xadd(keys.models, fields, id="9-0")
    return keys.models


def other_type(client: redis.Redis, keys: Keys) -> str:
    client.delete(keys.state)
    client.rpush(keys.state, "mine")
    return f"{keys.state} holds a list"


@pytest.mark.parametrize("spoil", [cut, cut_header, cut_version, other_id, other_type])
def test_damage_of_large_values_is_found_and_hides_nothing(
    client: redis.Redis,
    namespace: str,
    large: Model,
    spoil: Callable[[redis.Redis, Keys], str],
) -> None:
    fill(client, namespace, ["other"])
    text = spoil(client, Keys(namespace, "large"))
    rows = overviews(client, namespace)
    [trouble] = rows["large"].troubles
    assert text in trouble
    assert (rows["large"].model is None) == (spoil in (cut_version, other_id))
    assert (rows["large"].lag is None) == (spoil not in (cut_version, other_id))
    assert rows["large"].phase == "damaged"
    assert (rows["other"].phase, rows["other"].points) == ("stopped", 2000)


def test_many_models_need_few_round_trips(client: redis.Redis, namespace: str) -> None:
    names = [f"m-{number:03}" for number in range(150)]  # more than are read at once
    fill(client, namespace, names)
    before = client.info("stats")["total_reads_processed"]
    rows = overviews(client, namespace)
    assert client.info("stats")["total_reads_processed"] - before < 75
    assert list(rows) == names
    assert {row.lag for row in rows.values()} == {0}


@pytest.mark.every_server
def test_replies_that_outgrow_a_limit_of_the_server_are_read_in_parts(
    client: redis.Redis, namespace: str
) -> None:
    fill(client, namespace, [f"m-{number:03}" for number in range(150)])
    whole = overviews(client, namespace)
    with limited_replies(client, 100_000):
        parts = overviews(client, namespace)
    assert [row.as_dict() for row in parts.values()] == [row.as_dict() for row in whole.values()]


def test_a_model_that_does_not_exist_is_named(client: redis.Redis, namespace: str) -> None:
    fill(client, namespace, ["m"])
    with pytest.raises(UnknownModelError, match="'n'") as error:
        list(read_overviews(client, namespace, {}, ["m", "n"]))
    assert error.value.model == "n"


def test_a_head_has_what_its_model_has(client: redis.Redis, namespace: str) -> None:
    families: tuple[Family[Any], ...] = (
        KMeans(2),
        KMeans(2, metric="cosine"),
        GaussianMixture(2, covariance_type="full"),
    )
    for number, family in enumerate(families):
        keys = Keys(namespace, f"m{number}")
        model = a_model(family, version=1)
        client.xadd(keys.models, {"payload": encode_model(model)}, id="1-0")
        head = overviews(client, namespace)[f"m{number}"].model
        found = read_model(client, keys)
        assert isinstance(head, ModelHead)
        assert head.summary() == found.summary()
        for name in ("kind", "metric", "shape", "score", "score_name", "points", "version"):
            assert getattr(head, name) == getattr(found, name), name
