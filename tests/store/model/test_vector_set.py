"""The centroids of a model as a vector set, on a real Redis 8."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import redis
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.errors import DataError
from streamclust.fitting.fit import fit
from streamclust.formats.model import Model
from streamclust.models import KMeans
from streamclust.store.model.vector_set import write_vector_set
from tests.support.directions import directions

X, _ = directions(400, 5, 8)


def model_of(metric: str, version: int = 3) -> Model:
    family = KMeans(5, metric=metric)  # type: ignore[arg-type]
    params, stats = (found := fit(family, X)).params, found.stats
    mass, position = stats.weight, {"s": "1-0"}
    return Model("m", version, "step", family, params, mass, position, 400, 0.5, 1.0, ())


def test_the_nearest_element_is_the_code_of_a_point(redis8_url: str, namespace: str) -> None:
    client: Any = redis.Redis.from_url(redis8_url)
    model, key = model_of("cosine"), f"{namespace}:lists"
    for _ in range(2):  # it replaces a vector set that is there
        write_vector_set(client, key, model)
    assert client.execute_command("VCARD", key) == 5
    codes = model.predict(X[:50])
    for point, code in zip(X[:50].astype("<f4"), codes.tolist(), strict=True):
        found = client.execute_command("VSIM", key, "FP32", point.tobytes(), "COUNT", 1)
        assert [int(name) for name in found] == [code]
    attributes = [json.loads(client.execute_command("VGETATTR", key, str(k))) for k in range(5)]
    assert {each["version"] for each in attributes} == {3}
    np.testing.assert_allclose(sum(each["share"] for each in attributes), 1.0)


def test_what_cannot_be_written_is_refused(
    redis8_url: str, valkey_url: str, namespace: str
) -> None:
    client, key = redis.Redis.from_url(redis8_url), f"{namespace}:lists"
    with pytest.raises(DataError, match="needs a model with metric cosine"):
        write_vector_set(client, key, model_of("euclidean"))
    client.rpush(key, "mine")
    with pytest.raises(DataError, match="holds a list; choose another key"):
        write_vector_set(client, key, model_of("cosine"))
    assert client.lrange(key, 0, -1) == [b"mine"]
    valkey = redis.Redis.from_url(valkey_url)
    valkey.set(f"{namespace}:other", "mine")
    with pytest.raises(DataError, match="need Redis 8"):
        write_vector_set(valkey, key, model_of("cosine"))
    assert not valkey.exists(key)


def test_the_command_asks_for_a_model_with_the_metric_cosine() -> None:
    page = CliRunner().invoke(cli, ["models", "export", "--help"]).stdout
    assert "--to [file|faiss|onnx|vset]" in page
