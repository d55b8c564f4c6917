from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust.arrays import Array
from streamclust.demo.projection import ellipse, principal_axes


def rotation(degrees: float) -> Array:
    t = np.radians(degrees)
    return np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 179.0])
def test_ellipse_of_a_turned_gaussian(angle: float) -> None:
    R = rotation(angle)
    found = ellipse(R @ np.diag([9.0, 4.0]) @ R.T, n_sigma=2.0)
    assert (found.width, found.height) == pytest.approx((12.0, 8.0))
    assert np.cos(np.radians(2 * (found.angle - angle))) == pytest.approx(1.0)


def test_ellipse_of_the_textbook_covariance() -> None:
    a, b, c = 2.0, 1.0, 0.6
    found = ellipse(np.array([[a, c], [c, b]]), n_sigma=1.0)
    root = np.sqrt(((a - b) / 2) ** 2 + c**2)
    assert found.width == pytest.approx(2 * np.sqrt((a + b) / 2 + root))
    assert found.height == pytest.approx(2 * np.sqrt((a + b) / 2 - root))
    assert found.angle == pytest.approx(np.degrees(0.5 * np.arctan2(2 * c, a - b)))


def test_points_on_the_ellipse_are_n_sigma_from_the_mean() -> None:
    covariance = np.array([[3.0, -1.2], [-1.2, 0.9]])
    found = ellipse(covariance, n_sigma=2.0)
    turns = np.linspace(0.0, 2 * np.pi, 17)
    circle = np.column_stack([found.width * np.cos(turns), found.height * np.sin(turns)]) / 2
    points = circle @ rotation(found.angle).T
    mahalanobis = np.einsum("ni,ij,nj->n", points, np.linalg.inv(covariance), points)
    assert_allclose(np.sqrt(mahalanobis), 2.0)


def test_a_flat_gaussian_has_an_ellipse_of_no_height() -> None:
    found = ellipse(np.array([[4.0, 0.0], [0.0, -1e-18]]))
    assert (found.width, found.height) == (8.0, 0.0)


def test_projected_covariances_are_those_of_the_projected_points() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + 100.0
    projection = principal_axes(X)
    expected = np.cov(projection.points(X).T)
    assert_allclose(projection.covariances(np.cov(X.T)[None]), expected[None], rtol=1e-9)


def test_axes_are_those_of_greatest_spread() -> None:
    rng = np.random.default_rng(1)
    t = rng.normal(size=4_000)
    X = np.column_stack([t, t, rng.normal(size=4_000)]) + 0.1 * rng.normal(size=(4_000, 3))
    projection = principal_axes(X)
    first = projection.A[0] * X.std(axis=0)  # undo the scaling, roughly
    assert_allclose(np.abs(first / np.linalg.norm(first)), [0.7071, 0.7071, 0.0], atol=0.03)
    assert 0.6 < projection.share[0] < 0.72
    assert 0.28 < projection.share[1] < 0.36


def test_wild_readings_do_not_turn_the_axes() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(4_000, 3)) * [5.0, 1.0, 1.0]
    wild = X.copy()
    wild[:10, 2] = 1e6
    assert_allclose(np.abs(principal_axes(wild).A), np.abs(principal_axes(X).A), atol=0.1)


def test_a_feature_that_never_varies_is_no_obstacle() -> None:
    X = np.random.default_rng(3).normal(size=(500, 3))
    X[:, 1] = 7.0
    projection = principal_axes(X)
    assert np.isfinite(projection.points(X)).all()
    assert_allclose(projection.A[:, 1], 0.0, atol=1e-12)
