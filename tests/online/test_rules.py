"""The rules of the families: the prior of components with few points."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from streamclust.arrays import CovarianceType
from streamclust.fitting.search import search_of
from streamclust.online.rules import rules_of
from tests.support.strategies import (
    COVARIANCE_TYPES,
    blobs,
    floats,
    laws,
    mixture_of,
    problems,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)

CENTRES = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 5.0], [0.0, 10.0, -5.0], [10.0, 10.0, 0.0]])


@kinds
@given(data=st.data())
@laws
def test_a_prior_fills_components_of_few_points_up_to_its_weight(
    kind: CovarianceType, data: st.DataObject
) -> None:
    p = data.draw(problems(kind))
    family = mixture_of(kind, p.family.n_components)
    stats = family.e_step(p.params, p.X, p.w)
    more = data.draw(arrays(np.float64, stats.weight.shape, elements=floats(-3.0, 3.0)))
    more[0] = 1.0  # else there may be no prior
    prior = np.maximum(stats.weight + more, 0.1)
    found = rules_of(family).map_step(stats, p.params, prior)
    # The means are those of the points and of the missing weight at the last means.
    lacking = np.maximum(prior - stats.weight, 0.0)
    total = stats.weight + lacking
    own = stats.weight[:, None] * stats.averages(otherwise=p.params.means)
    expected = own + lacking[:, None] * p.params.means
    known = total > 1e-9
    assert_allclose(found.means[known], expected[known] / total[known, None], atol=1e-7)
    # The mixing weights are those of all points and of the missing mass at the last weights.
    shares = stats.weight + max(prior.sum() - stats.mass, 0.0) * p.params.weights
    assert_allclose(found.weights, shares / shares.sum(), rtol=1e-9, atol=1e-12)


@kinds
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_components_of_enough_points_have_no_prior(
    kind: CovarianceType, data: st.DataObject
) -> None:
    X, _ = blobs(data.draw(st.integers(20, 60)), CENTRES, seed=data.draw(st.integers(0, 99)))
    family = mixture_of(kind, 4)
    params = search_of(family).init(X, np.ones(len(X)), np.random.default_rng(0))
    stats = family.e_step(params, X, np.ones(len(X)))
    plain = family.m_step(stats, params)
    topped = rules_of(family).map_step(stats, params, np.full(4, stats.weight.min()))
    assert topped.covariances.tobytes() == plain.covariances.tobytes()
    assert topped.means.tobytes() == plain.means.tobytes()
    assert topped.weights.tobytes() == plain.weights.tobytes()
