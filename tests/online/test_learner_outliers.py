"""A stream with a share of outliers: they get no component, and are scored as outliers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from streamclust import Forgetting, HalfLife, StreamLearner
from streamclust.arrays import Array, CovarianceType
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.models import GaussianMixture
from tests.support.exhaustive import some
from tests.support.states import same
from tests.support.strategies import COVARIANCE_TYPES, learn, mixture_of

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])


def stream(n: int, seed: int = 0) -> tuple[Array, NDArray[np.bool_]]:
    """Return three round clusters with sentinel values in 0.5 % of the points, and which."""
    rng = np.random.default_rng(seed)
    X = CENTRES[rng.integers(0, 3, n)] + rng.normal(size=(n, 2))
    far = rng.random(n) < 0.005
    X[far] = rng.choice([-9999.0, 2147483647.0, 1e5], (int(far.sum()), 2))
    return X, far


@pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "diag", "full"))
@pytest.mark.parametrize("forgetting", [Forgetting(), HalfLife(500.0)], ids=["all", "half-life"])
def test_sentinel_values_get_no_component(kind: CovarianceType, forgetting: Forgetting) -> None:
    X, far = stream(4000)
    learner = StreamLearner(mixture_of(kind, 3, outliers=0.01), forgetting, coreset=1000)
    state, _ = learn(learner, X)
    assert state.params is not None
    order = np.lexsort(state.params.means.round(-1).T)
    assert_allclose(state.params.means[order], CENTRES[np.lexsort(CENTRES.T)], atol=0.6)
    scores = learner.family.score_points(state.params, X)
    assert scores[far].max() < scores[~far].min()


def test_the_loss_of_a_sentinel_value_is_bounded() -> None:
    X, _ = stream(3000, 1)
    learner = StreamLearner(GaussianMixture(3, outliers=0.01))
    state, _ = learn(learner, X)
    losses = [
        learner.update(state, np.concatenate([X[:50], [[place, place]]]))[1].loss
        for place in (1e3, 1e9)
    ]
    assert losses[0] is not None
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def test_a_learner_with_outliers_continues_from_its_checkpoint_bit_for_bit() -> None:
    X, _ = stream(4000, 2)
    family = GaussianMixture(3, outliers=0.02)
    learner = StreamLearner(family, HalfLife(800.0), coreset=800)
    state, _ = learn(learner, X[:2000])
    data = encode_checkpoint(Checkpoint(learner=state), family)
    again = decode_checkpoint(data, family, "here").learner
    assert same(learn(learner, X[2000:], state=again)[0], learn(learner, X[2000:], state=state)[0])


def test_the_share_can_be_set_for_a_running_model() -> None:
    X, _ = stream(4000, 3)
    plain = GaussianMixture(3)
    state, _ = learn(StreamLearner(plain, HalfLife(500.0)), X[:2000])
    data = encode_checkpoint(Checkpoint(learner=state), plain)
    family = GaussianMixture(3, outliers=0.01)
    learner = StreamLearner(family, HalfLife(500.0))
    state, _ = learn(learner, X[2000:], state=decode_checkpoint(data, family, "here").learner)
    assert state.params is not None
    assert np.abs(state.params.means).max() < 12.0


@pytest.mark.parametrize("coreset", [0, 1000], ids=["no coreset", "coreset"])
def test_a_jump_of_all_clusters_is_learned(coreset: int) -> None:
    X, _ = stream(6000, 4)
    X[3000:] += 500.0
    family = GaussianMixture(3, outliers=0.01)
    learner = StreamLearner(family, HalfLife(300.0), coreset=coreset)
    state, _ = learn(learner, X)
    assert state.params is not None
    near = np.abs(state.params.means - 503.0).max(axis=1) < 20.0
    assert near.all()
