"""Scores of a model over gathered points, and the choice of the number of components."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust import GaussianMixture, KMeans
from streamclust.errors import ConfigError, StoppedError
from streamclust.fitting.fit import fit
from streamclust.models.criteria import distances
from streamclust.models.scaling import Scaling, learn_scaling
from streamclust.refit import scoring
from streamclust.refit.data import gather
from streamclust.refit.runs import Plan
from streamclust.refit.scoring import Score, score
from streamclust.refit.selection import Choice, choose, parse_numbers, select
from tests.support.datasets import Table, a_table, by_chunks
from tests.support.exhaustive import some
from tests.support.gaps import family_with_gaps, with_gaps
from tests.support.strategies import FAMILIES, blobs, family_of

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_figures_are_those_of_the_fit_in_memory_and_by_chunks(name: str) -> None:
    table, family = a_table(), family_of(name, 3)
    run = fit(family, table.X, table.w)
    whole = score(family, run.params, gather(table, 0))
    assert whole.points == (table.w > 0.0).sum()
    assert whole.weight == table.w.sum()
    if name == "kmeans":
        assert whole.inertia == pytest.approx(run.stats.objective)
    else:
        assert whole.log_likelihood == pytest.approx(run.stats.objective)
        assert whole.log_likelihood_per_point == pytest.approx(-run.loss)
    assert whole.bic is not None
    assert whole.silhouette is not None
    assert whole.silhouette > 0.5
    chunked = score(family, run.params, by_chunks(table))
    assert chunked.bic == pytest.approx(whole.bic)
    assert chunked.silhouette == pytest.approx(whole.silhouette, abs=0.1)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_the_likelihood_is_in_the_data_s_units(name: str) -> None:
    # Given a feature in thousands of what it was, and points scaled to undo that
    table, family = a_table(), family_of(name, 3)
    plain = score(family, fit(family, table.X, table.w).params, gather(table, 0))
    factor = np.array([1.0, 1000.0])
    wide = gather(replace(table, X=table.X * factor), 0)
    scaling = learn_scaling("standard", wide.sample.X, wide.sample.w)
    assert scaling is not None
    scaled = wide.scaled(replace(scaling, center=np.zeros(2), scale=factor))
    params = fit(family, table.X, table.w).params
    found = score(family, params, scaled)
    assert plain.log_likelihood is not None
    assert found.log_likelihood == pytest.approx(
        plain.log_likelihood - table.w.sum() * np.log(1000.0)
    )


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_the_likelihood_counts_the_units_of_the_present_values_of_all_points(name: str) -> None:
    table, family = a_table(3000), family_with_gaps(name, 3)
    table = replace(table, X=with_gaps(table.X, 0.3))
    params, factor = fit(family, table.X, table.w).params, np.array([1e-3, 1e5])
    scaling = Scaling("standard", np.zeros(2), factor)
    plain = score(family, params, by_chunks(table)).log_likelihood
    wide = by_chunks(replace(table, X=table.X * factor)).scaled(scaling)
    assert not wide.is_in_memory
    found = score(family, params, wide).log_likelihood
    assert plain is not None
    assert found == pytest.approx(plain - table.w @ ~np.isnan(table.X) @ np.log(factor))


@pytest.mark.parametrize("family", [KMeans(1), GaussianMixture(1, "spherical")], ids=str)
def test_the_true_number_is_found(family: KMeans | GaussianMixture) -> None:
    X, _ = blobs(40, CENTRES)
    points = gather(Table(X, np.ones(len(X))), 0)
    passes: list[int] = []
    scores = list(
        select(family, points, (1, 2, 3, 4, 5), Plan(2), on_pass=lambda K, _: passes.append(K))
    )
    assert [each.n_components for each in scores] == [1, 2, 3, 4, 5]
    assert sorted(set(passes)) == [1, 2, 3, 4, 5]
    found = choose(scores)
    assert (found.bic, found.silhouette) == (4, 4)
    assert scores[0].silhouette is None
    inertia = [each.inertia for each in scores]
    assert inertia == sorted(inertia, reverse=True)


def test_a_selection_can_be_stopped() -> None:
    points = gather(a_table(), 0)
    looks = iter(range(1000))
    with pytest.raises(StoppedError):
        list(select(KMeans(1), points, (2, 3), Plan(2), stop=lambda: next(looks) > 3))


def a_score(K: int, inertia: float) -> Score:
    return Score(K, 9, 9.0, inertia, inertia / 9.0, None, None, 1, None, None, None)


@pytest.mark.parametrize("family", [KMeans(2), GaussianMixture(2)])
def test_scores_of_a_selection_are_those_of_each_fit_and_share_their_distances(
    family: KMeans | GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, plan, numbers = gather(a_table(), 0), Plan(2, seed=3), (1, 2, 3)
    each = [next(iter(select(family, points, [K], plan))) for K in numbers]
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return distances(*arguments)

    monkeypatch.setattr(scoring, "distances", counted)
    assert list(select(family, points, numbers, plan)) == each
    assert len(calls) == 1
    assert each[1].silhouette is not None


def test_the_elbow_is_where_j_bends() -> None:
    curve = [100.0, 60.0, 20.0, 18.0, 16.0, 15.0]
    scores = [a_score(K, J) for K, J in enumerate(curve, 1)]
    assert choose(scores) == Choice(bic=None, silhouette=None, elbow=3)
    assert choose(scores[:2]).elbow is None
    assert choose([a_score(K, 0.0) for K in (1, 2, 3)]).elbow is None


def test_numbers_of_components() -> None:
    assert parse_numbers("2..4") == parse_numbers("4,2,3") == (2, 3, 4)
    assert parse_numbers("8..8,2") == (2, 8)
    for bad in ("", "x", "0..3", "5..2", "1.5", "2..", "1..99999999999", "-3"):
        with pytest.raises(ConfigError, match=r"^--k .*: expected a range such as 2\.\.20"):
            parse_numbers(bad)
