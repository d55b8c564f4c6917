"""The plane in which a model is drawn: its axes, and covariances in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust.arrays import Array, CovarianceType
from streamclust.dashboard.payload import with_distinct_digits
from streamclust.dashboard.plane import (
    feature_plane,
    principal_plane,
    sample_covariances,
    share_of_best,
    with_share,
)
from streamclust.formats.model import Model
from streamclust.models import GaussianMixture, KMeans, KMeansParams, MixtureParams

K, D = 4, 5
NAMES = [f"x{d}" for d in range(D)]
RNG = np.random.default_rng(3)
MEANS = RNG.normal(size=(K, D)) * [1.0, 10.0, 1e3, 1e-3, 1.0]


def full() -> Array:
    roots = RNG.normal(size=(K, D, D))
    return np.asarray(roots @ roots.swapaxes(1, 2) + np.eye(D))


COVARIANCES: dict[CovarianceType, Array] = {
    "full": full(),
    "tied": full()[0],
    "diag": RNG.uniform(0.5, 2.0, size=(K, D)),
    "spherical": RNG.uniform(0.5, 2.0, size=K),
}


def expanded(kind: CovarianceType) -> Array:
    """All covariances as matrices."""
    given = COVARIANCES[kind]
    if kind == "diag":
        return np.array([np.diag(row) for row in given])
    if kind == "spherical":
        return np.array([value * np.eye(D) for value in given])
    return np.broadcast_to(given, (K, D, D))


def model(family: Any, params: Any, **more: Any) -> Model:
    mass = np.array([10.0, 20.0, 30.0, 40.0])[: len(params.means)]
    return Model("m", 1, "step", family, params, mass, {}, 100, 1.0, None, **more)


def mixture(kind: CovarianceType) -> Model:
    params = MixtureParams(np.full(K, 1.0 / K), MEANS, COVARIANCES[kind], kind)
    return model(GaussianMixture(K, kind), params)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_covariances_in_the_plane_are_those_of_projected_points(kind: CovarianceType) -> None:
    found = mixture(kind)
    plane = principal_plane(found, NAMES, None, 1)
    wanted = np.array([plane.A @ each @ plane.A.T for each in expanded(kind)])
    covariances = plane.covariances(found.params)
    assert covariances is not None
    np.testing.assert_allclose(covariances, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_principal_plane_has_the_most_variance_and_does_not_depend_on_units(
    kind: CovarianceType,
) -> None:
    found = mixture(kind)
    plane = principal_plane(found, NAMES, None, 1)
    assert share_of_best(plane, found, None) == pytest.approx(1.0)
    assert 0.0 < plane.share[1] <= plane.share[0] < 1.0
    stale = replace(plane, share=(0.5, 0.1))
    assert with_share(stale, found, None).share == pytest.approx(plane.share)
    for x in range(D):
        for y in range(x):
            assert share_of_best(feature_plane(found, NAMES, x, y), found, None) <= 1.0 + 1e-9
    assert abs(plane.axes @ plane.axes.T - np.eye(2)).max() < 1e-12


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 3.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_new_plane_is_turned_like_the_earlier_one(angle: float, side: float) -> None:
    """Otherwise the picture would be mirrored or turned when the plane changes."""
    found = mixture("full")
    plane = principal_plane(found, NAMES, None, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, side])
    before = replace(plane, axes=turn @ plane.axes, A=turn @ plane.A, centre=plane.centre + 1.0)
    after = principal_plane(found, NAMES, None, 2, before)
    np.testing.assert_allclose(after.points(found.means), before.points(found.means), atol=1e-9)
    assert sum(after.share) == pytest.approx(sum(plane.share))
    assert after.id != before.id


def test_clusters_keep_their_places_when_two_axes_change_their_order() -> None:
    """The second axis becomes the longest one after a drift."""
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1.0]])
    places = [corners * sizes for sizes in ([9.0, 8.0], [8.0, 9.0])]
    planes: list[Any] = [None]
    for number, place in enumerate(places):
        centroids = np.hstack([place, np.zeros((4, 1))])
        found = model(KMeans(4), KMeansParams(centroids))
        planes.append(principal_plane(found, NAMES[:3], None, number, planes[-1]))
        assert np.abs(planes[-1].points(centroids) - planes[1].points(centroids)).max() < 1e-9


def test_the_plane_of_two_features_is_in_their_units() -> None:
    found = mixture("full")
    plane = feature_plane(found, NAMES, 2, 0)
    np.testing.assert_array_equal(plane.points(found.means), found.means[:, [2, 0]])
    described = plane.as_dict()
    assert [axis["label"] for axis in described["axes"]] == ["x2", "x0"]
    assert described["id"] != feature_plane(found, NAMES, 0, 2).id


def test_one_feature_has_one_axis() -> None:
    found = model(KMeans(2), KMeansParams(np.array([[1.0], [3.0]])))
    plane = feature_plane(found, ["x"], 0, 0)
    assert plane.points(found.means).tolist() == [[1.0, 0.0], [3.0, 0.0]]
    assert plane.as_dict()["axes"][1] is None


def test_few_centroids_need_points_for_the_second_axis() -> None:
    centroids = np.zeros((2, D))
    centroids[1, 0] = 10.0
    found = model(KMeans(2), KMeansParams(centroids))
    residuals = np.zeros((50, D))
    residuals[:, 3] = RNG.normal(size=50)
    plane = principal_plane(found, NAMES, residuals, 1)
    np.testing.assert_allclose(np.abs(plane.axes), np.eye(D)[[0, 3]], atol=1e-9)


def test_numbers_far_from_zero_have_the_digits_that_tell_them_apart() -> None:
    assert with_distinct_digits(np.array([1e8, 1e8 + 1.25, np.nan])) == [1e8, 1e8 + 1.25, None]
    assert with_distinct_digits(np.array([0.123456789, 5.0])) == [0.123457, 5.0]
    assert with_distinct_digits(np.array([0.1 + 0.2, 0.1 + 0.2])) == [0.1 + 0.2] * 2
    assert with_distinct_digits(np.array([np.nan])) == [None]


def test_the_share_of_a_feature_has_the_variance_within_the_clusters() -> None:
    found = model(KMeans(1), KMeansParams(np.zeros((1, 2))))
    residuals = RNG.normal(size=(1000, 2)) * [3.0, 1.0]
    share = feature_plane(found, NAMES[:2], 0, 1, residuals).share
    assert share == pytest.approx((0.9, 0.1), abs=0.02)


def test_equal_centroids_without_points_still_have_a_plane() -> None:
    found = model(KMeans(3), KMeansParams(np.ones((3, D))))
    plane = principal_plane(found, NAMES, None, 1)
    assert plane.share == (0.0, 0.0)
    assert np.isfinite(plane.points(found.means)).all()


def test_covariances_of_points_need_several_points() -> None:
    Y = RNG.normal(size=(100, 2))
    codes = np.array([7] * 97 + [9] * 3)
    found = sample_covariances(Y, codes, np.array([7, 8, 9]))
    np.testing.assert_allclose(found[0], np.cov(Y[:97].T, bias=True))
    assert np.isnan(found[1:]).all()
