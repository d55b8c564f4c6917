"""Alerts and anomalies by the Python clients."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis

from streamclust import AsyncClient, Client, GaussianMixture, KMeans, KMeansParams, MixtureParams
from streamclust.errors import DataError
from streamclust.formats.alerts import Alert, encode_alert
from streamclust.formats.model import Model
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import anomaly_score
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from tests.support.commits import take
from tests.support.encoder_fixture import model_of

ALERT = Alert(0, "points", "5-0", 0, 3, 12.5, 0.999, 1, (), {}, 1_700_000_000_000)


@pytest.fixture
def opened(server_url: str, namespace: str) -> Iterator[Client]:
    with Client(server_url, namespace=namespace) as client:
        yield client


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url, protocol=2) as opened:
        yield opened


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace, "m")


@pytest.fixture
def token(client: redis.Redis, keys: Keys) -> int:
    return take(client, keys)


def raise_alerts(
    client: redis.Redis, keys: Keys, token: int, *entry_ids: str, keep: int = 9
) -> None:
    rows = [(each.encode(), encode_alert(replace(ALERT, entry_id=each))) for each in entry_ids]
    commit(client, keys, Commit(token, b"s", alerts=rows), keep_alerts=keep)


def test_stored_alerts_come_first_then_new_ones(
    opened: Client, client: redis.Redis, keys: Keys, token: int
) -> None:
    raise_alerts(client, keys, token, "1-0", "2-0", "3-0")
    assert [each.entry_id for each in opened.alerts("m", since=0, timeout=0)] == [
        *("1-0", "2-0", "3-0"),
    ]
    assert [each.number for each in opened.alerts("m", since=2, timeout=0)] == [3]
    assert list(opened.alerts("m", timeout=0)) == []
    stream = opened.alerts("m", since=2)
    assert next(stream).number == 3
    timer = threading.Timer(0.1, raise_alerts, (client, keys, token, "4-0"))
    timer.start()
    assert next(stream) == replace(ALERT, number=4, entry_id="4-0")
    timer.join()


def test_trimmed_alerts_are_a_gap_and_odd_entries_a_warning(
    opened: Client,
    client: redis.Redis,
    keys: Keys,
    token: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raise_alerts(client, keys, token, *(f"{n}-0" for n in range(1, 8)), keep=2)
    gaps: list[tuple[int, int]] = []
    given = {"since": 2, "timeout": 0.0, "on_gap": lambda *gap: gaps.append(gap)}
    assert [each.number for each in opened.alerts("m", **given)] == [6, 7]  # type: ignore[arg-type]
    assert gaps == [(3, 5)]
    client.xadd(keys.alerts, {"x": "1"}, id="8-0")
    with caplog.at_level(logging.WARNING, "streamclust"):
        assert [each.number for each in opened.alerts("m", since=2, timeout=0)] == [6, 7]
    assert "alerts 3 to 5 of 'm' were trimmed" in caplog.text
    assert "entry 8-0 holds no alert" in caplog.text


def test_a_model_that_was_created_again_counts_from_one(
    opened: Client, client: redis.Redis, keys: Keys, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.client.follower.LOOK_SECONDS", 0.0)
    raise_alerts(client, keys, token, "1-0", "2-0")
    stream = opened.alerts("m", since=1)
    assert next(stream).number == 2
    client.delete(keys.alerts)
    raise_alerts(client, keys, token, "9-0")
    assert next(stream).entry_id == "9-0"


def test_trimmed_alerts_of_a_model_that_was_created_again_are_a_gap(
    opened: Client, client: redis.Redis, keys: Keys, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.client.follower.LOOK_SECONDS", 0.0)
    gaps: list[tuple[int, int]] = []
    raise_alerts(client, keys, token, *(f"{n}-0" for n in range(1, 8)))
    stream = opened.alerts("m", since=6, on_gap=lambda *gap: gaps.append(gap))
    assert next(stream).number == 7
    client.delete(keys.alerts)
    raise_alerts(client, keys, token, *(f"{n}-0" for n in range(11, 15)), keep=2)
    assert next(stream).entry_id == "13-0"
    assert gaps == [(1, 2)]


def test_the_client_for_asyncio_has_them_too(
    server_url: str, client: redis.Redis, keys: Keys, token: int
) -> None:
    raise_alerts(client, keys, token, "1-0", "2-0")

    async def body() -> list[str]:
        found = []
        async with (
            AsyncClient(server_url, namespace=keys.namespace) as opened,
            aclosing(opened.alerts("m", since=0)) as alerts,
        ):
            async for alert in alerts:
                found.append(alert.entry_id)
                if len(found) == 2:
                    await asyncio.to_thread(raise_alerts, client, keys, token, "3-0")
                if len(found) == 3:
                    break
        return found

    assert asyncio.run(asyncio.wait_for(body(), 20.0)) == ["1-0", "2-0", "3-0"]


def a_mixture(**more: Any) -> Model:
    params = MixtureParams(
        np.ones(1), np.zeros((1, 2)), np.array([[[2.0, 1.0], [1.0, 1.0]]]), "full"
    )
    return replace(model_of(1), family=GaussianMixture(1), params=params, mass=np.ones(1), **more)


def test_a_model_scores_flags_and_explains_points() -> None:
    X = np.random.default_rng(0).normal(size=(5000, 2))
    plain = a_mixture()
    known = ScoreDistribution().add(anomaly_score(plain.family, plain.params, X))
    model = replace(plain, scores=known)
    np.testing.assert_array_equal(model.anomaly_scores(X), -model.score_samples(X))
    quantiles = model.quantiles(X)
    np.testing.assert_allclose(quantiles.mean(), 0.5, atol=0.02)
    np.testing.assert_array_equal(model.anomalies(X, 0.01), quantiles > 0.99)
    np.testing.assert_allclose(model.anomalies(X, 0.01).mean(), 0.01, atol=0.002)
    found = model.attribution([[5.0, 0.0]])
    assert found.top(1).tolist() == [[0]]
    kmeans = model_of(1)
    assert kmeans.anomaly_scores([[3.0, 4.0]]).tolist() == [25.0]
    assert isinstance(kmeans.family, KMeans)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_model_scores_flags_and_explains_by_tails(metric: Any) -> None:
    X = np.random.default_rng(0).exponential(size=(5000, 4))
    family = KMeans(1, metric=metric)
    points = np.asarray(family.prepare(X))
    features = FeatureDistribution().add(points)
    known = ScoreDistribution().add(features.scores(points))
    model = replace(
        model_of(1), family=family, params=KMeansParams(np.full((1, 4), 0.5)), mass=np.ones(1)
    )
    model = replace(model, scores=known, feature_distribution=features, anomaly_score="tail_score")
    np.testing.assert_array_equal(model.anomaly_scores(X), features.scores(points))
    np.testing.assert_array_equal(model.tail_scores(X), features.scores(points))
    np.testing.assert_allclose(model.anomalies(X, 0.1).mean(), 0.1, atol=0.01)
    found = model.attribution(X)
    np.testing.assert_allclose(found.contribution.sum(axis=1), features.scores(points))
    lengths = np.linalg.norm(X, axis=1, keepdims=True) if metric == "cosine" else np.ones((5000, 1))
    np.testing.assert_allclose(found.expected, np.median(points, axis=0) * lengths, rtol=0.1)


def test_a_model_without_a_memory_of_scores_says_what_to_set() -> None:
    with pytest.raises(DataError, match=r"set models\.m\.anomaly\.rate, or quantile in"):
        model_of(1).quantiles([[1.0, 2.0]])
    with pytest.raises(DataError, match=r"set models\.m\.encode\.score or anomaly\.score to tail"):
        model_of(1).tail_scores([[1.0, 2.0]])
    with pytest.raises(DataError, match="rate is 0; expected a number between 0 and 1"):
        model_of(1).anomalies([[1.0, 2.0]], 0)
