"""The scikit-learn face: scikit-learn's own checks, and what they don't ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from streamclust import HalfLife, HalfLifeTime, PowerSchedule, fit
from streamclust.errors import DataError, FormatError, TooFewPointsError
from streamclust.models import GaussianMixture, KMeans
from streamclust.online.drift import Drift
from streamclust.sklearn import StreamingGaussianMixture, StreamingKMeans
from tests.support.directions import directions, unit
from tests.support.gaps import with_gaps
from tests.support.strategies import same_partition

NOT_HERE = {"check_array_api_input"}
"""Skipped by scikit-learn itself unless SCIPY_ARRAY_API is set before SciPy is imported."""


def blobs(n: int = 300, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + np.array([-9.0, 0.0, 9.0])[np.arange(n) % 3][:, None]


@pytest.mark.filterwarnings("default")  # some checks warn on purpose
@pytest.mark.parametrize(
    ("estimator", "at_least"),
    [(StreamingKMeans(), 57), (StreamingGaussianMixture(), 47)],
    ids=["kmeans", "mixture"],
)
def test_scikit_learn_s_own_checks_all_pass(estimator: BaseEstimator, at_least: int) -> None:
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    wanting = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    assert set(wanting) <= NOT_HERE, wanting
    assert len(results) - len(wanting) >= at_least


# ---- fit


def test_fit_is_the_batch_fit() -> None:
    X = blobs()
    distinct = np.unique(X, axis=0)
    centers = StreamingKMeans(3).fit(X).cluster_centers_
    assert np.allclose(centers, fit(KMeans(3), distinct).params.centroids, rtol=1e-12)
    mixture = StreamingGaussianMixture(3, covariance_type="diag").fit(X)
    expected = fit(GaussianMixture(3, "diag"), distinct)
    assert np.allclose(mixture.score(X), -expected.loss, rtol=1e-6)


@pytest.mark.parametrize("estimator", [StreamingKMeans(4), StreamingGaussianMixture(2)])
def test_neither_order_nor_a_split_of_weights_changes_a_bit(estimator: Any) -> None:
    rng = np.random.default_rng(1)
    X, w = rng.normal(size=(40, 2)), rng.integers(0, 4, 40).astype(float)
    repeated = rng.permutation(np.repeat(X, w.astype(int), axis=0))
    one = clone(estimator).fit(X, sample_weight=w)
    other = clone(estimator).fit(repeated)
    assert one.predict(X).tolist() == other.predict(X).tolist()
    assert one.counts_.tobytes() == other.counts_.tobytes()
    assert one.score(X) == other.score(X)


def test_too_few_points_and_no_weight_are_named() -> None:
    with pytest.raises(TooFewPointsError, match="2 distinct points are too few for 3"):
        StreamingKMeans(3).fit([[0.0], [1.0], [1.0]])
    with pytest.raises(ValueError, match="all sample weights are zero") as caught:
        StreamingKMeans(1).fit([[0.0]], sample_weight=[0.0])
    assert not isinstance(caught.value, TooFewPointsError)


@pytest.mark.parametrize("kind", [StreamingKMeans, StreamingGaussianMixture])
def test_a_half_life_in_event_time_is_refused_at_once(kind: Any) -> None:
    estimator = kind(forgetting=HalfLifeTime(60))  # in scikit-learn, constructors check nothing
    for learn in (estimator.fit, estimator.partial_fit):
        with pytest.raises(DataError, match=r"no event time; use HalfLife\(points=...\), or a Str"):
            learn(blobs())


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)])
def test_other_random_states_are_welcome(random_state: Any) -> None:
    X = blobs()
    assert StreamingKMeans(3, random_state=random_state).fit(X).score(X) > -700.0


# ---- partial_fit


def test_the_stream_goes_on_from_a_fit_and_forgets() -> None:
    X = blobs(600)
    kmeans = StreamingKMeans(3, forgetting=HalfLife(points=100)).fit(X)
    assert np.isnan(kmeans.prequential_score_)
    assert len(kmeans.labels_) == 600
    for batch in np.split(blobs(1200, seed=1) + 3.0, 12):
        kmeans.partial_fit(batch)
    assert kmeans.labels_.tolist() == kmeans.predict(batch).tolist()
    assert kmeans.n_samples_seen_ == 1800
    assert np.allclose(np.sort(kmeans.cluster_centers_[:, 0]), [-6.0, 3.0, 12.0], atol=0.5)
    assert kmeans.counts_.sum() < 300.0
    assert -30.0 < kmeans.prequential_score_ < -1.0


def test_before_the_start_there_is_a_provisional_answer() -> None:
    X = blobs(90)
    kmeans = StreamingKMeans(3, warm_up=90).partial_fit(X[:2])
    with pytest.raises(NotFittedError, match="still warming up: 2 distinct points"):
        kmeans.predict(X)
    kmeans.partial_fit(X[2:60])
    assert (
        kmeans.cluster_centers_.tolist()
        == StreamingKMeans(3, warm_up=60).partial_fit(X[:60]).cluster_centers_.tolist()
    )
    assert kmeans.counts_.sum() == 60.0
    assert kmeans.partial_fit(X[60:])._state.params is not None


def test_another_number_of_clusters_needs_another_fit() -> None:
    kmeans = StreamingKMeans(3).fit(blobs())
    with pytest.raises(DataError, match="number of components has changed"):
        kmeans.set_params(n_clusters=4).partial_fit(blobs())
    assert kmeans.fit(blobs()).cluster_centers_.shape == (4, 2)


# ---- answers


def test_transform_and_score_are_of_the_definition() -> None:
    X, w = blobs(), np.arange(300.0)
    kmeans = StreamingKMeans(3).fit(X)
    distance = np.linalg.norm(X[:, None] - kmeans.cluster_centers_, axis=2)
    assert np.allclose(kmeans.transform(X), distance, rtol=1e-9)
    assert kmeans.predict(X).tolist() == distance.argmin(axis=1).tolist()
    assert np.isclose(kmeans.score(X, sample_weight=w), -(w * distance.min(axis=1) ** 2).sum())


def test_a_mixture_s_answers_are_of_its_parameters() -> None:
    X = blobs()
    mixture = StreamingGaussianMixture(3).fit(X)
    shares = mixture.predict_proba(X)
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert mixture.predict(X).tolist() == shares.argmax(axis=1).tolist()
    assert np.isclose(mixture.score(X), mixture.score_samples(X).mean())
    points, labels = mixture.sample(3000)
    counts = np.bincount(labels, minlength=3) / 3000
    assert np.allclose(counts, mixture.weights_, atol=0.05)
    assert np.allclose(points.mean(axis=0), mixture.weights_ @ mixture.means_, atol=0.5)
    assert mixture.covariances_.shape == (3, 2, 2)


@pytest.mark.parametrize("n_samples", [-1, "a", 1.5, None, True])
def test_a_sample_has_an_integer_size(n_samples: Any) -> None:
    mixture = StreamingGaussianMixture(1).fit(blobs())
    with pytest.raises(DataError, match=r"n_samples is .*; expected"):
        mixture.sample(n_samples)
    three: Any = np.int64(3)
    assert mixture.sample(three)[0].shape == (3, 2)


def test_frames_in_and_frames_out() -> None:
    frame = pd.DataFrame(blobs(), columns=["a", "b"])
    kmeans = StreamingKMeans(3).set_output(transform="pandas").fit(frame)
    assert kmeans.feature_names_in_.tolist() == ["a", "b"]
    names = [f"streamingkmeans{k}" for k in range(3)]
    assert kmeans.get_feature_names_out().tolist() == names
    assert kmeans.transform(frame).columns.tolist() == names
    with pytest.raises(ValueError, match="feature names"):
        kmeans.partial_fit(frame[["b", "a"]])


def test_at_home_in_pipelines_and_searches() -> None:
    grid = {"streamingkmeans__n_clusters": [2, 3], "streamingkmeans__forgetting": [HalfLife(50)]}
    search = GridSearchCV(make_pipeline(StandardScaler(), StreamingKMeans()), grid, cv=2)
    assert search.fit(blobs()).best_params_["streamingkmeans__n_clusters"] == 3


def test_scaled_features_count_alike_and_answers_are_in_their_units() -> None:
    X = blobs() * [1.0, 1e6]
    kmeans = StreamingKMeans(3, scale="standard").fit(X)
    assert set(np.bincount(kmeans.labels_)) == {100}
    assert np.allclose(np.sort(kmeans.cluster_centers_[:, 1]), [-9e6, 0.0, 9e6], atol=5e5)
    assert (kmeans.transform(X).argmin(axis=1) == kmeans.predict(X)).all()
    mixture = StreamingGaussianMixture(3, scale="standard").fit(X)
    assert mixture.score(X) == pytest.approx(StreamingGaussianMixture(3).fit(X).score(X), abs=0.05)


def test_a_drift_is_found_and_counted() -> None:
    kmeans = StreamingKMeans(3, warm_up=60, drift=Drift(on_drift="forget"))
    for number in range(40):
        kmeans.partial_fit(blobs(60, number) + (0.0 if number < 25 else 40.0))
    assert kmeans.n_drifts_ == 1


# ---- bytes


@pytest.mark.parametrize(
    "estimator",
    [
        StreamingKMeans(3, forgetting=HalfLife(200.0), warm_up=60),
        StreamingGaussianMixture(2, forgetting=PowerSchedule(average=True), warm_up=60),
        StreamingKMeans(3, warm_up=60, coreset=50, scale="robust", drift=Drift("adwin")),
    ],
)
@pytest.mark.parametrize("batches", [0, 1, 5])
def test_bytes_go_on_where_the_estimator_was(estimator: Any, batches: int) -> None:
    frame = pd.DataFrame(blobs(), columns=["a", "b"])
    estimator = clone(estimator)
    for number in range(batches):
        estimator.partial_fit(frame[50 * number : 50 * (number + 1)])
    again = type(estimator).from_bytes(estimator.to_bytes())
    assert again.get_params() == estimator.get_params()
    for each in (estimator, again):
        each.partial_fit(frame[250:])
    assert again.to_bytes() == estimator.to_bytes()
    assert again.feature_names_in_.tolist() == ["a", "b"]
    assert again.predict(frame).tolist() == estimator.predict(frame).tolist()


def test_bytes_keep_the_labels_of_a_fit() -> None:
    kmeans = StreamingKMeans(3).fit(blobs())
    again = StreamingKMeans.from_bytes(kmeans.to_bytes())
    assert again.labels_.tolist() == kmeans.labels_.tolist()
    assert again.n_features_in_ == 2


def test_labels_are_those_of_the_latest_batch_as_in_mini_batch_kmeans() -> None:
    kmeans = StreamingKMeans(3, warm_up=100)
    X = blobs(300)
    buffer = np.empty((60, 2))
    for start in range(0, 300, 60):  # also during the warm-up, and if the caller changes the array
        buffer[:] = X[start : start + 60]
        kmeans.partial_fit(buffer)
        buffer[:] = 0.0
        assert kmeans.labels_.tolist() == kmeans.predict(X[start : start + 60]).tolist()
    again = StreamingKMeans.from_bytes(kmeans.to_bytes())
    assert again.labels_.tolist() == kmeans.labels_.tolist()
    with pytest.raises(NotFittedError):
        _ = StreamingKMeans(3).labels_


def test_the_metric_cosine_clusters_directions() -> None:
    X, owners = directions(600, 4, 6)
    kmeans = StreamingKMeans(4, metric="cosine").fit(X)
    assert same_partition(kmeans.labels_, owners)
    assert np.allclose(np.linalg.norm(kmeans.cluster_centers_, axis=1), 1.0)
    cosines = unit(X) @ kmeans.cluster_centers_.T
    assert np.allclose(kmeans.transform(X), 1.0 - cosines)
    assert np.isclose(kmeans.score(X), (cosines.max(axis=1) - 1.0).sum())
    again = StreamingKMeans.from_bytes(kmeans.partial_fit(X).to_bytes())
    assert again.get_params()["metric"] == "cosine"
    assert again.predict(X).tolist() == kmeans.predict(1e6 * X).tolist()
    with pytest.raises(ValueError, match="zero vector"):
        kmeans.partial_fit(np.zeros((3, 6)))
    for changed in (kmeans, again):
        with pytest.raises(DataError, match=r"metric is .*, but the first batch had another one"):
            changed.set_params(metric="euclidean").partial_fit(X)
        assert changed.fit(X).partial_fit(X).n_samples_seen_ == 1200


def test_bytes_of_something_else_are_refused() -> None:
    data = StreamingKMeans(3).fit(blobs()).to_bytes()
    with pytest.raises(FormatError, match=r"hold a .*StreamingKMeans; expected a .*Mixture"):
        StreamingGaussianMixture.from_bytes(data)
    with pytest.raises(FormatError, match="does not hold"):
        StreamingKMeans.from_bytes(data[:-1])
    with pytest.raises(DataError, match="random_state is a RandomState"):
        StreamingKMeans(3, random_state=np.random.RandomState(0)).to_bytes()


def test_rows_and_numbers_while_k_adapts() -> None:
    X = blobs()
    kmeans = StreamingKMeans("auto", n_clusters_range=(2, 8)).fit(X)
    assert kmeans.ids_.tolist() == [0, 1, 2]
    assert kmeans.transform(X).shape == (len(X), 3)
    assert len(kmeans.get_feature_names_out()) == 3
    mixture = StreamingGaussianMixture("auto", forgetting=HalfLife(300), warm_up=90)
    mixture.partial_fit(X).partial_fit(X)
    assert len(mixture.weights_) == 3
    again = type(mixture).from_bytes(mixture.to_bytes())
    assert again.ids_.tolist() == mixture.ids_.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="call fit for a new start"):
        mixture.set_params(n_components=3).partial_fit(X)


def test_a_mixture_with_a_share_of_outliers_gives_them_no_component() -> None:
    X = blobs(3000)
    X[::500] = -9999.0
    mixture = StreamingGaussianMixture(3, outliers=0.01, random_state=1).fit(X)
    assert np.abs(mixture.means_).max() < 12.0
    assert mixture.score_samples(X)[::500].max() < mixture.score_samples(X[1:500]).min()
    again = StreamingGaussianMixture.from_bytes(mixture.to_bytes()).partial_fit(X)
    assert again.get_params()["outliers"] == 0.01
    assert np.abs(again.means_).max() < 12.0


# ---- missing values


@pytest.mark.filterwarnings("default")  # some checks warn on purpose
@pytest.mark.parametrize(
    "estimator",
    [StreamingKMeans(missing="learn"), StreamingGaussianMixture(missing="learn")],
    ids=["kmeans", "mixture"],
)
def test_scikit_learn_s_checks_pass_if_missing_values_are_learned(estimator: Any) -> None:
    assert estimator.__sklearn_tags__().input_tags.allow_nan
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    wanting = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    assert set(wanting) <= NOT_HERE, wanting


@pytest.mark.parametrize("kind", [StreamingKMeans, StreamingGaussianMixture])
def test_missing_values_are_learned_and_imputed_on_request(kind: Any) -> None:
    X, owners = correlated(300)
    gaps = with_gaps(X, 0.25)
    estimator = kind(3, missing="learn").fit(gaps)
    assert same_partition(estimator.predict(X), owners)
    filled = estimator.impute(gaps)
    missing = np.isnan(gaps)
    assert np.array_equal(filled[~missing], gaps[~missing])
    by_mean = np.where(missing, np.nanmean(gaps, axis=0), X)
    assert ((filled - X) ** 2).sum() < 0.5 * ((by_mean - X) ** 2).sum()
    assert np.isfinite(estimator.score(gaps))
    again = type(estimator).from_bytes(estimator.partial_fit(gaps).to_bytes())
    assert np.array_equal(again.impute(gaps), estimator.impute(gaps))
    assert again.get_params()["missing"] == "learn"
    online = kind(3, missing="learn", warm_up=100)
    for start in range(0, 900, 100):
        online.partial_fit(gaps[start : start + 100])
    assert same_partition(online.predict(X), owners)


def test_missing_values_are_refused_by_default_and_points_without_a_value_always() -> None:
    gaps = np.array([[0.0, 1.0], [np.nan, 2.0], [5.0, np.nan]])
    for kind in (StreamingKMeans, StreamingGaussianMixture):
        assert not kind().__sklearn_tags__().input_tags.allow_nan
        with pytest.raises(ValueError, match="contains NaN"):
            kind().fit(gaps)
        with pytest.raises(ValueError, match="first at index 1: all values are missing"):
            kind(1, missing="learn").fit([[0.0, 1.0], [np.nan, np.nan]])
        with pytest.raises(ValueError, match=r"feature 1 .* missing in all 3 points"):
            kind(1, missing="learn").fit([[0.0, np.nan], [1.0, np.nan], [2.0, np.nan]])


def correlated(n: int) -> Any:
    rng = np.random.default_rng(0)
    owners = np.arange(3 * n) % 3
    centres = np.array([[0.0, 0.0, 0.0, 0.0], [25.0, 0.0, 25.0, 0.0], [0.0, 25.0, 25.0, 25.0]])
    common = rng.normal(size=(3 * n, 1))
    return centres[owners] + 2.0 * common + rng.normal(size=(3 * n, 4)), owners
