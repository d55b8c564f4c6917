"""Vector quantization: codes are the nearest centroids, and what is lost is J."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.arrays import Array
from streamclust.errors import DataError
from streamclust.fitting.fit import fit
from streamclust.models import GaussianMixture, KMeans, KMeansParams, MixtureParams
from streamclust.models.quantize import quantize, reconstruct


@st.composite
def tables(draw: st.DrawFn) -> tuple[Array, Array]:
    """Points and centroids of one dimension, small whole numbers: ties and equal ones occur."""
    D = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, K = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    X, U = rng.integers(-4, 5, (N, D)), rng.integers(-4, 5, (K, D))
    return X * np.float64(scale), U * np.float64(scale)


@given(tables())
def test_decoding_gives_the_nearest_centroid(table: tuple[Array, Array]) -> None:
    X, U = table
    codes = quantize(KMeans(len(U)), KMeansParams(U), X)
    distances = np.linalg.norm(X[:, None] - U[None], axis=2)
    found = np.linalg.norm(X - reconstruct(U, codes.index), axis=1)
    np.testing.assert_allclose(found, distances.min(axis=1), rtol=1e-12, atol=0)
    np.testing.assert_allclose(codes.distance, found, rtol=1e-12, atol=0)


@given(tables())
def test_the_distortion_is_the_objective(table: tuple[Array, Array]) -> None:
    """||X - Z U||^2 = J."""
    X, U = table
    family, params = KMeans(len(U)), KMeansParams(U)
    Z = np.eye(len(U))[quantize(family, params, X).index]
    J = family.e_step(params, X, np.ones(len(X))).objective
    np.testing.assert_allclose(((X - Z @ U) ** 2).sum(), J, rtol=1e-9, atol=0)


@given(tables(), st.integers(1, 8))
def test_the_best_centroids_are_in_order(table: tuple[Array, Array], m: int) -> None:
    X, U = table
    m = min(m, len(U))
    codes = quantize(KMeans(len(U)), KMeansParams(U), X, top=m)
    if m == 1:
        assert codes.top is None
        return
    assert codes.top is not None
    assert codes.top_values is not None
    distances = np.linalg.norm(X[:, None] - U[None], axis=2)
    wanted = np.sort(distances, axis=1)[:, :m]
    np.testing.assert_allclose(codes.top_values, wanted, rtol=1e-9, atol=0)
    np.testing.assert_allclose(np.take_along_axis(distances, codes.top, 1), wanted, rtol=1e-9)
    assert (codes.top[:, 0] == quantize(KMeans(len(U)), KMeansParams(U), X).index).all()
    assert all(len(set(row)) == m for row in codes.top.tolist())


def test_the_best_of_a_mixture_are_the_most_responsible() -> None:
    rng = np.random.default_rng(0)
    family = GaussianMixture(4, "diag")
    params = MixtureParams(np.full(4, 0.25), rng.normal(size=(4, 3)), np.ones((4, 3)), "diag")
    X = rng.normal(size=(50, 3))
    gamma = family.responsibilities(params, X)
    codes = quantize(family, params, X, top=4)
    assert codes.top_values is not None
    np.testing.assert_array_equal(codes.index, gamma.argmax(axis=1))
    np.testing.assert_array_equal(codes.top_values, -np.sort(-gamma, axis=1))
    np.testing.assert_allclose(codes.top_values.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        codes.distance, np.linalg.norm(X - params.means[codes.index], axis=1), rtol=1e-12
    )


def test_tiles_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    X, U = rng.normal(size=(100, 2)), rng.normal(size=(7, 2))
    whole = quantize(KMeans(7), KMeansParams(U), X, top=3)
    monkeypatch.setattr("streamclust.models.quantize._TILE_CELLS", 70)
    parts = quantize(KMeans(7), KMeansParams(U), X, top=3)
    assert whole.top is not None
    np.testing.assert_array_equal(whole.top, parts.top)
    np.testing.assert_allclose(whole.distance, parts.distance)


def test_no_points_have_no_codes() -> None:
    params = KMeansParams(np.zeros((3, 2)))
    for top in (1, 2):
        assert len(quantize(KMeans(3), params, np.empty((0, 2)), top=top)) == 0


def test_what_does_not_fit_is_said() -> None:
    family, params = KMeans(3), KMeansParams(np.zeros((3, 2)))
    with pytest.raises(DataError, match="expected 2"):
        quantize(family, params, [[1.0]])
    with pytest.raises(DataError, match="top is 4; expected 1 to K, which is 3"):
        quantize(family, params, [[1.0, 2.0]], top=4)
    for codes in ([3], [-1]):
        with pytest.raises(DataError, match="expected 0 to 2"):
            reconstruct(params.centroids, codes)


def test_scales_decide_which_centroid_is_best_and_distances_are_the_data_s() -> None:
    rng = np.random.default_rng(2)
    X, U, s = rng.normal(size=(60, 2)), rng.normal(size=(5, 2)), np.array([0.1, 10.0])
    params = KMeansParams(U, s)
    codes = quantize(KMeans(5), params, X, top=3)
    scaled = np.linalg.norm((X[:, None] - U[None]) / s, axis=2)
    np.testing.assert_array_equal(codes.top, np.argsort(scaled, axis=1)[:, :3])
    np.testing.assert_array_equal(codes.index, quantize(KMeans(5), params, X).index)
    np.testing.assert_allclose(codes.distance, np.linalg.norm(X - U[codes.index], axis=1))


@pytest.mark.parametrize(
    ("family", "params", "message"),
    [
        (KMeans, KMeansParams(np.eye(2)), r"family is the class KMeans; .* such as KMeans\(3\)"),
        (None, KMeansParams(np.eye(2)), "family is None; expected a KMeans"),
        (KMeans(2), None, "params is None; expected parameters of kmeans"),
        (KMeans(2), np.eye(2), "params is a ndarray"),
        (KMeans(2), KMeansParams([[0.0]]), "expected an array"),  # type: ignore[arg-type]
        (GaussianMixture(2), KMeansParams(np.eye(2)), "expected parameters of gaussian_mixture"),
    ],
)
def test_parameters_of_another_family_are_refused(family: Any, params: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        quantize(family, params, [[0.0, 1.0]])


def test_parameters_of_another_shape_of_covariances_are_refused() -> None:
    params = fit(GaussianMixture(1), np.random.default_rng(0).normal(size=(50, 2))).params
    with pytest.raises(DataError, match="covariance_type 'full'; expected 'diag'"):
        quantize(GaussianMixture(1, "diag"), params, [[0.0, 1.0]])


@pytest.mark.parametrize("top", ["2", 1.5, 0])
def test_a_top_that_is_no_positive_integer_is_refused(top: Any) -> None:
    with pytest.raises(DataError, match="top is "):
        quantize(KMeans(2), KMeansParams(np.eye(2)), [[0.0, 1.0]], top=top)
