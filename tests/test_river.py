"""The river face: river's own checks, also those for other kinds, and its evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from river import checks, datasets, evaluate, metrics, preprocessing
from river.checks import common

from streamclust import HalfLife
from streamclust.errors import DataError
from streamclust.river import StreamingGaussianMixture, StreamingKMeans
from tests.support.directions import directions
from tests.support.strategies import same_partition

MODELS = [
    StreamingKMeans(3, warm_up=50),
    StreamingGaussianMixture(2, covariance_type="diag", warm_up=60, forgetting=HalfLife(100)),
    StreamingGaussianMixture(2, warm_up=60, missing="learn"),
]
ON_DATA = [
    common.check_learn_one,
    common.check_pickling,
    common.check_shuffle_features_no_impact,
    common.check_emerging_features,
    common.check_disappearing_features,
    common.check_radically_disappearing_features,
    common.check_predict_one_before_any_learn,
    common.check_no_state_aliasing_with_input,
    common.check_clone_is_independent,
    common.check_seeding_is_idempotent,
    common.check_bounded_memory_growth,
]
"""river runs these for classifiers and the like; for a clusterer it has no data."""


@pytest.fixture(params=MODELS, ids=["kmeans", "mixture", "missing"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param.clone()


def blobs(n: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) + np.array([-9.0, 0.0, 9.0])[np.arange(n) % 3][:, None]


def test_river_s_own_checks_all_pass(model: Any) -> None:
    assert model._unit_test_skips() == set()
    checks.check_estimator(model)


@pytest.mark.parametrize("check", ON_DATA, ids=lambda check: check.__name__)
def test_the_checks_on_data_pass_too(model: Any, check: Any) -> None:
    check(model, dataset=list(datasets.Phishing().take(50)))


def test_progressive_validation_behind_a_scaler() -> None:
    data = list(datasets.ImageSegments().take(400))
    scores = {}
    for name, metric in {"silhouette": metrics.Silhouette(), "v": metrics.VBeta()}.items():
        pipeline = preprocessing.StandardScaler() | StreamingKMeans(7, warm_up=100)
        scores[name] = evaluate.progressive_val_score(data, pipeline, metric).get()
    assert 0.0 < scores["silhouette"] < 0.6  # nearest over second nearest: lower is better
    assert scores["v"] > 0.4


def test_many_is_one_call_and_one_is_a_batch_of_one() -> None:
    X = pd.DataFrame(blobs(200), columns=["b", "a"], index=range(5, 205))
    many, one = (preprocessing.StandardScaler() | StreamingKMeans(3, warm_up=200) for _ in "12")
    assert isinstance(many["StreamingKMeans"].predict_one({}), int)
    many.learn_many(X)
    for x in X.to_dict(orient="records"):
        one.learn_one(x)
    labels = many.predict_many(X)
    assert labels.index.tolist() == X.index.tolist()
    assert labels.tolist() == [many.predict_one(x) for x in X.to_dict(orient="records")]
    assert set(many["StreamingKMeans"].centers) == {0, 1, 2}
    assert set(one["StreamingKMeans"].centers[0]) == {"a", "b"}


def test_weights_and_columns_by_name() -> None:
    X, w = pd.DataFrame(blobs(90), columns=["a", "b"]), np.arange(90.0)
    many, one, swapped = (StreamingKMeans(3, warm_up=80) for _ in range(3))
    many.learn_many(X, w)
    swapped.learn_many(X[["b", "a"]].assign(more=1.0)[["b", "a"]], w)
    assert many.centers == swapped.centers
    for x, weight in zip(X.to_dict(orient="records"), w, strict=True):
        one.learn_one(x, w=weight)
    stats = one._state.stats
    assert stats is not None
    assert stats.weight.sum() == w.sum()


def test_until_the_start_all_is_cluster_0() -> None:
    mixture = StreamingGaussianMixture(2, warm_up=10)
    X = pd.DataFrame(blobs(9), columns=["a", "b"])
    assert mixture.predict_one({"a": 1.0}) == 0
    mixture.learn_many(X)
    assert mixture.predict_many(X).tolist() == [0] * 9
    assert mixture.centers == {}
    assert mixture.predict_proba_one({"a": 1.0}) == {}
    assert np.isnan(mixture.score_one({"a": 1.0}))
    mixture.learn_one({"a": 9.0, "b": 9.0})
    assert sum(mixture.predict_proba_one({"a": 9.0, "b": 9.0}).values()) == pytest.approx(1.0)
    assert mixture.score_one({"a": 9.0, "b": 9.0}) > mixture.score_one({"a": 99.0, "b": 9.0})


def test_bytes_go_on_where_the_model_was(model: Any) -> None:
    data = [x for x, _ in datasets.Phishing().take(120)]
    for x in data[:80]:
        model.learn_one(x)
    again = type(model).from_bytes(model.to_bytes())
    for x in data[80:]:
        model.learn_one(x)
        again.learn_one(x)
    assert again.to_bytes() == model.to_bytes()
    assert again.centers == model.centers


def test_clusters_have_their_numbers_while_k_adapts() -> None:
    model = StreamingKMeans("auto", HalfLife(300), warm_up=90, n_clusters_range=(2, 8))
    X = blobs(900)
    model.learn_many(pd.DataFrame(X[:300], columns=["a", "b"]))
    assert sorted(model.centers) == [0, 1, 2]
    (gone,) = (k for k, center in model.centers.items() if abs(center["a"]) < 3.0)
    left = np.arange(600) % 3 != 1
    for part in np.array_split(X[300:][left], 4):
        model.learn_many(pd.DataFrame(part, columns=["a", "b"]))
    assert sorted(model.centers) == [k for k in range(3) if k != gone]
    found = {model.predict_one({"a": place, "b": place}) for place in (-9.0, 9.0)}
    assert found == set(model.centers)
    with pytest.raises(DataError, match="n_clusters is 'many'; expected a number, or 'auto'"):
        StreamingKMeans("many").learn_one({"a": 1.0})  # type: ignore[arg-type]


def test_the_metric_cosine_clusters_directions() -> None:
    X, owners = directions(300, 3, 4)
    model = StreamingKMeans(3, metric="cosine", warm_up=100)
    for x in X.tolist():
        model.learn_one(dict(enumerate(x)))
    found = [model.predict_one(dict(enumerate(x))) for x in (1e9 * X).tolist()]
    assert same_partition(found, owners)
    lengths = [sum(v * v for v in center.values()) for center in model.centers.values()]
    assert lengths == pytest.approx([1.0] * 3)


def test_a_mixture_with_a_share_of_outliers_gives_them_no_component() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 2)) + 9.0 * rng.integers(-1, 2, size=(1200, 1))
    X[::200] = 1e6
    model = StreamingGaussianMixture(3, outliers=0.01, warm_up=300)
    model.learn_many(pd.DataFrame(X, columns=["a", "b"]))
    scores = [model.score_one({"a": place, "b": place}) for place in (9.0, 1e6)]
    assert scores[0] > -10.0
    assert scores[1] < -1e6


@pytest.mark.parametrize("kind", [StreamingKMeans, StreamingGaussianMixture])
def test_absent_features_none_and_nan_are_missing_values_on_request(kind: Any) -> None:
    rng = np.random.default_rng(0)
    owners = np.arange(300) % 2
    X = 20.0 * owners[:, None] + rng.normal(size=(300, 1)) + 0.1 * rng.normal(size=(300, 3))
    model = kind(2, warm_up=100, missing="learn")
    nothing: list[dict[str, Any]] = [{}, {"b": None}, {"b": float("nan")}]
    for n, (a, b, c) in enumerate(X.tolist()):
        x: dict[Any, Any] = {"a": a, "b": b, "c": c}
        if n % 4 == 1:
            del x["b"]
            x |= nothing[n % 3]
        model.learn_one(x)
    assert same_partition([model.predict_one({"a": x[0], "c": x[2]}) for x in X], owners)
    filled = model.impute_one({"a": 20.0, "b": None})
    assert set(filled) == {"a", "b", "c"}
    assert filled["a"] == 20.0
    assert filled["b"] == pytest.approx(20.0, abs=1.0)
    with pytest.raises(DataError, match="all values are missing"):
        model.learn_one({})
    frame = pd.DataFrame({"a": X[:50, 0], "b": [None] * 50, "c": X[:50, 2]})
    model.learn_many(frame)
    assert len(model.predict_many(frame)) == 50
    early = kind(2, missing="learn")
    early.learn_one({"a": 1.0, "b": None})
    assert early.impute_one({"a": 2.0}) == {"a": 2.0}
