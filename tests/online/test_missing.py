"""The streaming learner with points that have missing values."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import GaussianMixture, HalfLife, KMeans, PowerSchedule, StreamLearner, fit
from streamclust.arrays import Array
from streamclust.errors import DataError, FormatError
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.models import Family
from streamclust.models.matching import match
from streamclust.online.drift import Drift
from tests.support.exhaustive import combinations, some
from tests.support.gaps import family_with_gaps, with_gaps
from tests.support.states import same
from tests.support.strategies import FAMILIES, blobs, family_of, learn, random_params

CENTRES = [[0.0, 0.0, 0.0, 0.0], [8.0, 8.0, 8.0, 8.0], [-8.0, 8.0, -8.0, 8.0]]


@cache
def gaps_and_batch_fit(family: Family[Any]) -> tuple[Array, Any]:
    """Return points with gaps, and the parameters of a batch fit of them."""
    gaps = with_gaps(shuffled(1000), 0.3)
    return gaps, fit(family, gaps).params


def shuffled(n: int, seed: int = 0, centres: Any = CENTRES) -> Any:
    X, _ = blobs(n, centres, seed=seed)
    return np.random.default_rng(seed).permutation(X)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))
def test_without_a_gap_the_state_has_the_same_bits_whether_gaps_are_learned_or_not(
    name: str,
) -> None:
    X, options = shuffled(300), {"warm_up": 100, "scale": "standard", "drift": Drift()}
    if name == "spherical":
        options["scale"] = "none"
    states = [
        learn(StreamLearner(family, HalfLife(200), **options), X)[0]  # type: ignore[arg-type]
        for family in (family_of(name, 3), family_with_gaps(name, 3))
    ]
    assert states[0].params is not None
    assert same(*states)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))
@pytest.mark.parametrize("forgetting", [HalfLife(1500), PowerSchedule(0.7, average=True)])
def test_online_learning_is_nearly_as_good_as_a_batch_fit(name: str, forgetting: Any) -> None:
    family, test = family_with_gaps(name, 3), shuffled(500, seed=9)
    gaps, batch = gaps_and_batch_fit(family)
    learner = StreamLearner(family, forgetting, warm_up=300, coreset=500)
    state, told = learn(learner, gaps, size=100)
    found = learner.in_units(state)
    assert found is not None
    assert told[-1].loss is not None
    w = np.ones(len(test))
    losses = [family.loss(family.e_step(params, test, w)) for params in (batch, found)]
    assert losses[1] < losses[0] + (0.05 * losses[0] if name == "kmeans" else 0.05)
    assert_allclose(found.means[match(found.means, batch.means)], batch.means, atol=0.5)


@pytest.mark.parametrize("name", ["kmeans", "full", "diag"])
def test_a_bad_start_is_corrected_by_a_fit_of_the_coreset_with_gaps(name: str) -> None:
    family, rng = family_with_gaps(name, 3), np.random.default_rng(0)
    places = np.array(CENTRES)[[1, 1, 2]] + rng.normal(size=(3, 4))
    bad = random_params(family, places, rng)
    learner = StreamLearner(family, warm_up=100)
    state = learner.init(bad)
    gaps = with_gaps(shuffled(500), 0.3)
    state, _ = learn(learner, gaps, size=100, state=state)
    assert state.counts.reclustered >= 1
    assert np.isnan(state.coreset.points.X).mean() == pytest.approx(np.isnan(gaps).mean(), abs=0.05)
    found = learner.in_units(state)
    assert found is not None
    assert_allclose(found.means[match(found.means, np.array(CENTRES))], CENTRES, atol=0.6)


@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_another_share_of_missing_values_is_no_drift_but_other_places_are(name: str) -> None:
    X = shuffled(1600)
    gaps = np.concatenate([X[:2400], with_gaps(X[2400:], 0.5)])
    family = family_with_gaps(name, 3)
    learner = StreamLearner(family, HalfLife(1000), warm_up=300, drift=Drift(on_drift="recluster"))
    state, told = learn(learner, gaps, size=60)
    assert not any(info.drifted for info in told)
    moved = with_gaps(shuffled(400, seed=2, centres=np.array(CENTRES) + 30.0), 0.5)
    state, told = learn(learner, moved, size=60, state=state)
    assert sum(info.drifted for info in told) == 1
    found = learner.in_units(state)
    assert found is not None
    assert_allclose(np.sort(found.means.mean(axis=1)), [30.0, 30.0, 38.0], atol=1.0)


def test_another_share_of_missing_values_starts_no_fit_of_the_coreset_early() -> None:
    family = family_with_gaps("full", 3)
    X = 1e-3 * shuffled(1500)  # densities above 1: a gap lowers the likelihood
    learner = StreamLearner(family, HalfLife(1000), warm_up=1000)
    state, _ = learn(learner, X[:3000], size=100)
    before = state.recluster.excess_loss
    state, _ = learn(learner, with_gaps(X[3000:3500], 0.5), size=100, state=state)
    assert state.recluster.excess_loss < before + 50.0


@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_features_with_gaps_are_scaled_by_their_present_values(scale: Any) -> None:
    units = np.array([1.0, 1e-6, 1e4, 10.0])
    X = shuffled(300) * units + units
    learner = StreamLearner(family_with_gaps("kmeans", 3), warm_up=300, scale=scale)
    state, _ = learn(learner, with_gaps(X, 0.3), size=100)
    found = learner.in_units(state)
    assert found is not None
    wanted = np.array(CENTRES) + 1.0
    centroids = found.centroids / units
    assert_allclose(centroids[match(centroids, wanted)], wanted, atol=0.6)


@pytest.mark.parametrize(
    ("name", "scale"),
    combinations(
        ["kmeans", "full", "tied", "diag"],
        ["standard", "robust"],
        always=lambda name, scale: (name in ("kmeans", "diag")) == (scale == "standard"),
    ),
)
def test_other_units_shift_the_loss_by_the_log_volume_of_the_present_values(
    name: str, scale: Any
) -> None:
    units = 2.0 ** np.array([-30.0, 0.0, 13.0, 4.0])
    gaps = shuffled(200)
    gaps[300:] = with_gaps(gaps[300:], 0.4)
    learner = StreamLearner(family_with_gaps(name, 3), warm_up=200, scale=scale)
    one, other = (learner.loss(learn(learner, X, size=50)[0]) for X in (gaps, gaps * units))
    assert one is not None
    assert other is not None
    shift = float((~np.isnan(gaps[200:])).mean(axis=0) @ np.log(units))
    assert other - one == pytest.approx(0.0 if name == "kmeans" else shift, abs=1e-6)


def test_the_loss_of_scaled_points_is_that_of_the_present_values_in_their_units() -> None:
    family, X = family_with_gaps("full", 2), shuffled(400, centres=CENTRES[:2])
    gaps = np.concatenate([X[:400], with_gaps(X[400:], 0.4)]) * [1e-3, 1.0, 1e4, 10.0]
    learner = StreamLearner(family, PowerSchedule(1.0), warm_up=400, scale="standard", coreset=0)
    state, _ = learn(learner, gaps[:400], size=400)
    params = learner.in_units(state)
    state, _ = learn(learner, gaps[400:], size=400, state=state)
    wanted = -float(family.score_points(params, gaps[400:]).mean())
    assert learner.loss(state) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_the_number_of_components_follows_a_stream_with_gaps(name: str) -> None:
    least = {"min_clusters": 1} if name == "kmeans" else {"min_components": 1}
    family = family_with_gaps(name, 5, **least)
    learner = StreamLearner(family, HalfLife(400), warm_up=200, coreset=250)
    state, _ = learn(learner, with_gaps(shuffled(200, centres=CENTRES[:2]), 0.2), size=50)
    assert len(state.ids) == 2
    state, _ = learn(learner, with_gaps(shuffled(500), 0.2), size=50, state=state)
    assert len(state.ids) == 3


@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_components_that_lose_their_points_are_revived_with_gaps(name: str) -> None:
    learner = StreamLearner(family_with_gaps(name, 3), HalfLife(60), warm_up=150, coreset=0)
    state, _ = learn(learner, with_gaps(shuffled(100), 0.2), size=30)
    moved = np.array(CENTRES)[[0, 0, 1]] + [[0.0], [0.0], [0.0]]
    state, told = learn(
        learner, with_gaps(shuffled(200, seed=3, centres=moved), 0.2), size=30, state=state
    )
    assert any(info.revived for info in told)
    assert state.params is not None
    assert np.isfinite(state.params.means).all()


@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_it_continues_from_a_checkpoint_to_the_last_bit(name: str) -> None:
    gaps = with_gaps(shuffled(200), 0.3)
    learner = StreamLearner(family_with_gaps(name, 3), HalfLife(300), warm_up=120, coreset=150)
    for start in (100, 350):  # during the warm-up, and after it
        state, _ = learn(learner, gaps[:start])
        data = encode_checkpoint(Checkpoint(learner=state), learner.family)
        again = decode_checkpoint(data, learner.family, "test").learner
        assert same(again, state)
        one, other = (learn(learner, gaps[start:], state=each)[0] for each in (state, again))
        assert same(one, other)
        family: Any = learner.family
        rejecting = replace(family, missing="reject")
        with pytest.raises(FormatError, match="test holds points with missing values"):
            decode_checkpoint(data, rejecting, "test")


def test_gaps_may_come_later_and_the_setting_may_change_before_them() -> None:
    X = shuffled(200)
    state, _ = learn(StreamLearner(KMeans(3), warm_up=100), X)
    data = encode_checkpoint(Checkpoint(learner=state), KMeans(3))
    family = family_with_gaps("kmeans", 3)
    state = decode_checkpoint(data, family, "test").learner
    state, _ = learn(StreamLearner(family, warm_up=100), with_gaps(X, 0.3), state=state)
    back = encode_checkpoint(
        Checkpoint(learner=replace(state, coreset=type(state.coreset)())), family
    )
    assert decode_checkpoint(back, KMeans(3), "test").learner.points == 1200


@pytest.mark.parametrize("family", [KMeans(2), GaussianMixture(2)])
def test_gaps_are_refused_unless_they_are_learned(family: Any) -> None:
    learner = StreamLearner(family, warm_up=4)
    with pytest.raises(DataError, match="X holds NaN"):
        learner.update(learner.init(), [[0.0, np.nan]])


def test_a_point_without_any_value_is_refused_and_the_state_stays_usable() -> None:
    learner = StreamLearner(family_with_gaps("full", 1), warm_up=10)
    state, _ = learn(learner, shuffled(10))
    with pytest.raises(DataError, match="1 row of X, the first at index 1: all values are missing"):
        learner.update(state, [[0.0, 1.0, np.nan, 2.0], [np.nan] * 4])
    learner.update(state, [[0.0, 1.0, np.nan, 2.0]])


@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_a_start_waits_for_a_value_of_each_feature_in_bounded_memory(name: str) -> None:
    X = shuffled(200)
    never = X.copy()
    never[:, 2] = np.nan
    learner = StreamLearner(family_with_gaps(name, 3), warm_up=100)
    state, told = learn(learner, never)
    assert state.params is None
    assert "feature 2 (counted from 0): missing in all" in told[-1].reason
    assert len(state.warm_up) < 100
    assert state.points == 600
    state, told = learn(learner, X, state=state)
    assert "started" in [info.phase for info in told]
    assert state.params is not None


def test_a_feature_that_is_missing_from_now_on_keeps_its_mean() -> None:
    X = shuffled(300)
    learner = StreamLearner(family_with_gaps("full", 3), HalfLife(100), warm_up=200)
    state, _ = learn(learner, X)
    later = shuffled(300, seed=5)
    later[:, 3] = np.nan
    state, _ = learn(learner, later, state=state)
    found = learner.in_units(state)
    assert found is not None
    assert_allclose(found.means[match(found.means, np.array(CENTRES))], CENTRES, atol=0.7)
    assert (found.covariances[:, 3, 3] < 3.0).all()
