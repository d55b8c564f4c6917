"""The river face: river's own checks, also those for other kinds, and its evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from river import checks, datasets, evaluate, metrics, preprocessing
from river.checks import common

from streamclust import HalfLife, HalfLifeTime
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
    model = StreamingKMeans("auto", forgetting=HalfLife(300), warm_up=90, n_clusters_range=(2, 8))
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


# ---- bad input


def learned(kind: Any = StreamingGaussianMixture, **options: Any) -> Any:
    model = kind(1, warm_up=10, **options)
    model.learn_many(pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=[*"abc"]))
    return model


def uses_of_a_point(model: Any) -> list[Any]:
    uses = [model.learn_one, model.predict_one]
    mixture = isinstance(model, StreamingGaussianMixture)
    return uses + ([model.predict_proba_one, model.score_one] if mixture else [])


def test_names_of_columns_may_be_integers() -> None:
    frame = pd.DataFrame([[1, 10, 100], [2, 20, 200], [3, 30, 300]])
    model = StreamingKMeans(1, warm_up=1)
    model.learn_many(frame)
    assert model.centers == {0: {0: 2.0, 1: 20.0, 2: 200.0}}
    two = StreamingKMeans(2, warm_up=1)
    two.learn_many(pd.DataFrame({1: [0.0, 9.0], 0: [5.0, 5.0]}))
    near, far = two.predict_many(pd.DataFrame({0: [5.0, 5.0], 1: [1.0, 8.0]}))
    assert (near, far) == (two.predict_one({1: 0.0, 0: 5.0}), two.predict_one({1: 9.0, 0: 5.0}))
    assert near != far


@pytest.mark.parametrize("kind", [StreamingKMeans, StreamingGaussianMixture])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "NaN"),
        (None, "NaN"),
        (float("inf"), "infinity"),
        (-1e200, "-1e\\+200"),
        pytest.param(10**5000, "too large", id="huge"),
        ("x", "'x'"),
        (1j, "1j"),
        ([1.0], r"\[1.0\]"),
        (pd.NA, "<NA>"),
    ],
)
def test_values_that_are_no_numbers_are_refused_by_name(kind: Any, value: Any, shown: str) -> None:
    model = learned(kind)
    before = model.to_bytes()
    for use in uses_of_a_point(model):
        with pytest.raises(DataError, match=f"^feature 'b' is {shown}; expected a number of magni"):
            use({"a": 1.0, "b": value})
    assert model.to_bytes() == before


@pytest.mark.parametrize("use", ["learn_many", "predict_many"])
@pytest.mark.parametrize(
    ("column", "place"),
    [
        ([1.0, float("nan")], "NaN in row 1"),
        ([1.0, None], "NaN in row 1"),
        ([float("inf"), 1.0], "infinity in row 0"),
        (["1", "x"], "'x' in row 1"),
        ([1j, 2.0], r"'1j' in row 0"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "'2020-.*' in row 0"),
        (pd.array([True, None], dtype="boolean"), "<NA> in row 1"),
    ],
)
def test_a_frame_s_values_are_refused_by_name_and_row(use: str, column: Any, place: str) -> None:
    model = learned()
    with pytest.raises(DataError, match=f"^feature 'b' is {place}; expected a number of magnitude"):
        getattr(model, use)(pd.DataFrame({"a": [1.0, 2.0], "b": column}))


def test_a_polars_frame_is_checked_too() -> None:
    for column, place in ((["1", "x"], "'x' in row 1"), ([1, None], "NaN in row 1")):
        with pytest.raises(DataError, match=f"feature 'b' is {place}"):
            learned().predict_many(pl.DataFrame({"b": column}))


def test_what_is_no_point_and_no_frame_is_refused() -> None:
    series: Any = pd.Series({"a": 1.0})
    points: list[Any] = [None, [1, 2], series]
    frames: list[Any] = [None, np.zeros((2, 3)), series, pl.LazyFrame({"a": [1.0]})]
    for model in (learned(), StreamingGaussianMixture(1)):
        for x in points:
            with pytest.raises(DataError, match=f"x is a {type(x).__name__}; expected a dict"):
                model.learn_one(x)
        for X in frames:
            for use in (model.learn_many, model.predict_many):
                with pytest.raises(DataError, match=f"X is a {type(X).__name__}; expected a frame"):
                    use(X)
        with pytest.raises(DataError, match="several columns of the same name"):
            model.learn_many(pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]))
    with pytest.raises(DataError, match="x is a list; expected a dict"):
        learned().predict_one([1, 2])


def test_missing_values_are_predicted_only_on_request_and_not_alone() -> None:
    model = learned(missing="learn")
    for use in uses_of_a_point(model):
        use({"a": 1.0, "b": float("nan"), "c": None})
        for nothing in ({"a": float("nan")}, {"z": 1.0}):
            with pytest.raises(DataError, match="all values are missing"):
                use(nothing)
        with pytest.raises(DataError, match="feature 'b' is infinity"):
            use({"a": None, "b": float("inf")})
    frame = pd.DataFrame({"a": [1.0, None], "b": [None, 2.0]})
    assert model.predict_many(frame).tolist() == [0, 0]
    with pytest.raises(DataError, match="first at index 1: all values are missing"):
        model.predict_many(frame[["a"]])


def test_a_point_without_any_known_feature_is_refused() -> None:
    model = learned()
    n = model._state.points
    for use in uses_of_a_point(model):
        with pytest.raises(DataError, match=r"^x has none of the features a, b, c; it has z$"):
            use({"z": 1.0})
        with pytest.raises(DataError, match=r"a, b, c; it has no features$"):
            use({})
        with pytest.raises(DataError) as caught:
            use({f"\x1b[31m{number}": 1.0 for number in range(1000)})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300
    for many in (model.learn_many, model.predict_many):
        with pytest.raises(DataError, match=r"^X has none of the features a, b, c; it has y, z$"):
            many(pd.DataFrame({"y": [1.0], "z": [2.0]}))
    assert model._state.points == n
    model.learn_one({"b": 1.0, "z": 9.0})  # absent features count as 0
    assert model._state.points == n + 1


def test_only_a_point_that_was_learned_gives_the_features() -> None:
    model = StreamingKMeans(1, warm_up=1)
    refused: list[dict[Any, Any]] = [{}, {"z": float("nan")}, {"z": "x"}]
    for x in refused:
        with pytest.raises(DataError):
            model.learn_one(x)
    with pytest.raises(DataError, match="first point has no features"):
        model.learn_many(pd.DataFrame(index=[0, 1]))
    model.learn_many(pd.DataFrame({"z": []}))  # an empty batch changes nothing
    model.learn_one({"a": 1.0})
    assert model.centers == {0: {"a": 1.0}}
    model.learn_many(pd.DataFrame())
    assert len(model.predict_many(pd.DataFrame())) == 0


def test_during_the_warm_up_points_are_checked_too() -> None:
    model = StreamingGaussianMixture(1, warm_up=10)
    model.learn_one({"a": 1.0})
    for use in uses_of_a_point(model):
        with pytest.raises(DataError, match="feature 'a' is NaN"):
            use({"a": float("nan")})
    with pytest.raises(DataError, match="feature 'a' is NaN in row 0"):
        model.predict_many(pd.DataFrame({"a": [float("nan")]}))


# ---- the constructor


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StreamingKMeans(0), "n_clusters is 0; expected at least 1"),
        (lambda: StreamingKMeans(metric="l1"), "metric is 'l1'"),  # type: ignore[arg-type]
        (lambda: StreamingKMeans(forgetting=5), "forgetting is 5; expected a Forgetting"),  # type: ignore[arg-type]
        (lambda: StreamingGaussianMixture(covariance_type="diagonal"), "covariance_type is 'di"),  # type: ignore[arg-type]
        (lambda: StreamingGaussianMixture(n_init=0), "n_init is 0"),
        (lambda: StreamingKMeans(3).clone({"n_clusters": 0}), "n_clusters is 0"),
        (lambda: StreamingKMeans(forgetting=HalfLifeTime(60)), r"no event time; use HalfLife\("),
    ],
)
def test_the_constructor_refuses_what_no_learner_can_have(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize("kind", [StreamingKMeans, StreamingGaussianMixture])
def test_options_after_the_first_have_names(kind: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        kind(2, "full")
    model = kind(2, forgetting=HalfLife(100), seed=3)
    assert model.clone()._get_params() == model._get_params()
