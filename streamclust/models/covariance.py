"""The four covariance types and their operations; the table is `COVARIANCES`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from streamclust.errors import DataError

if TYPE_CHECKING:
    from streamclust.arrays import Array, CovarianceType


class Covariance(ABC):
    """Operations on covariances of one type, for K components in D dimensions.

    Methods that aren't abstract are those of types with one covariance per component.
    """

    @abstractmethod
    def shape(self, K: int, D: int) -> tuple[int, ...]:
        """Return the shape of the array that holds all covariances."""

    def estimate(self, second: Array, weight: Array, otherwise: Array) -> Array:
        """Return covariances from second moments about the means.

        A component without mass gets its covariance from `otherwise`.
        """
        mass = weight.reshape(-1, *[1] * (second.ndim - 1))
        if (weight > 0.0).all():
            return np.asarray(second / mass)
        return np.where(mass > 0.0, second / np.where(mass > 0.0, mass, 1.0), otherwise)

    @abstractmethod
    def inner_variance(self, second: Array, D: int) -> Array:
        """Return the sum of squared deviations from the means of each feature, shape (D,)."""

    @abstractmethod
    def variances(self, covariances: Array, K: int, D: int) -> Array:
        """Return the variance of each feature in each component, shape (K, D)."""

    @abstractmethod
    def add_ridge(self, covariances: Array, ridge: Array) -> Array:
        """Return `covariances` with a ridge added to their diagonals.

        `ridge` has the shape (D,), or (K, D) with one ridge per component; a tied covariance uses
        the average of these ridges.
        """

    @abstractmethod
    def root(self, covariances: Array) -> Array:
        """Return lower Cholesky factors, or standard deviations."""

    @abstractmethod
    def repaired(self, covariances: Array) -> Array:
        """Return covariances whose eigenvalues are at least the size of the most negative one.

        The eigenvalues are those with features at equal spread. A negative eigenvalue is a rounding
        error that far points have left after they decayed. Other eigenvalues may have an error of
        the same size.
        """

    def moment(self, covariances: Array, weight: Array) -> Array:
        """Return the second moments about the means that `covariances` imply."""
        return weight.reshape(-1, *[1] * (covariances.ndim - 1)) * covariances

    @abstractmethod
    def rescale(self, covariances: Array, scale: Array) -> Array:
        """Return the covariances of scale * z from the covariances of z; `scale` is (D,)."""

    @abstractmethod
    def inertia(self, second: Array, weight: Array) -> Array:
        """Return each component's mass times its variance along its widest axis, shape (K,).

        `second` is about the means. Features are scaled to equal variance within components.
        """

    @abstractmethod
    def halve(
        self, second: Array, weight: Array, D: int, heavy: int, light: int
    ) -> tuple[Array, Array]:
        """Split component `heavy` along its widest axis; one half replaces `light`.

        `second` is about the means; `weight` (K,) is the mass before the split. Return the second
        moments of all components after the split, and d (D,): the means of the halves are the old
        mean + d and the old mean - d.
        """


HALF_NORMAL = float(np.sqrt(2.0 / np.pi))
"""Mean of |z| for a standard normal z: the distance of the mean of a half from the centre."""


def _widest_axis(covariance: Array) -> Array:
    """Return the axis of the largest eigenvalue, one standard deviation long, (D,).

    For an eigenvector v of C, this is d = C v / sqrt(v^T C v). With it, C - d d^T has no negative
    eigenvalues. With sqrt(lambda) v it can have some, because v has rounding errors, for features
    that never vary, or whose units are far smaller than those of the others.
    """
    vector = np.linalg.eigh(covariance)[1][:, -1]
    spread = covariance @ vector
    variance = float(vector @ spread)
    if not variance > 0.0:
        return np.zeros_like(vector)
    sign = 1.0 if vector[np.abs(vector).argmax()] > 0.0 else -1.0  # the same on every machine
    return np.asarray(sign * spread / np.sqrt(variance))


def symmetric(covariances: Array) -> Array:
    """Return `covariances` (..., D, D) made symmetric to the last bit.

    Raises
    ------
    DataError
        If they differ from their transposes by more than 1e-9 standard deviations.
    """
    transposed = covariances.swapaxes(-1, -2)
    deviations = np.sqrt(np.abs(np.diagonal(covariances, axis1=-2, axis2=-1)))
    scale = deviations[..., :, None] * deviations[..., None, :]
    if (np.abs(covariances - transposed) > 1e-9 * scale).any():
        raise DataError("covariances are not symmetric; the values at (i, j) and (j, i) must agree")
    return np.asarray(0.5 * (covariances + transposed))


@lru_cache(maxsize=8)
def _identity(D: int) -> Array:
    """Return the identity matrix; each m-step needs it."""
    identity = np.eye(D)
    identity.flags.writeable = False
    return identity


def _deviations(variance: Array) -> Array:
    return np.sqrt(np.where(variance > 0.0, variance, 1.0))


class _Matrices(Covariance):
    """Covariances that are matrices."""

    def add_ridge(self, covariances: Array, ridge: Array) -> Array:
        return covariances + ridge[..., None] * _identity(ridge.shape[-1])

    def root(self, covariances: Array) -> Array:
        try:
            return np.asarray(np.linalg.cholesky(covariances), dtype=np.float64)
        except np.linalg.LinAlgError:
            raise DataError(
                "a covariance is not positive definite: there are fewer distinct points than "
                "dimensions, or features that are copies of each other; raise reg_covar"
            ) from None

    def repaired(self, covariances: Array) -> Array:
        spread = _deviations(np.abs(np.diagonal(covariances, axis1=-2, axis2=-1)))
        scale = spread[..., :, None] * spread[..., None, :]
        values, vectors = np.linalg.eigh(covariances / scale)
        error = np.maximum(-values.min(axis=-1, keepdims=True), 0.0)
        values = np.where(error > 0.0, np.maximum(values, error), values)
        repaired = (vectors * values[..., None, :]) @ vectors.swapaxes(-1, -2) * scale
        unchanged = (error == 0.0)[..., None]
        return np.where(unchanged, covariances, 0.5 * (repaired + repaired.swapaxes(-1, -2)))

    def rescale(self, covariances: Array, scale: Array) -> Array:
        return covariances * np.outer(scale, scale)


class _Variances(Covariance):
    """Covariances that are numbers on a diagonal."""

    def estimate(self, second: Array, weight: Array, otherwise: Array) -> Array:
        return super().estimate(np.abs(second), weight, otherwise)

    def root(self, covariances: Array) -> Array:
        if not (covariances > 0.0).all():
            raise DataError("a variance is not positive: points are equal; raise reg_covar")
        return np.sqrt(covariances)

    def repaired(self, covariances: Array) -> Array:
        return np.abs(covariances)


class _Full(_Matrices):
    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (K, D, D)

    def inner_variance(self, second: Array, D: int) -> Array:
        return np.asarray(np.einsum("kdd->d", second))

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.asarray(np.einsum("kdd->kd", covariances))

    def inertia(self, second: Array, weight: Array) -> Array:
        spread = _deviations(np.einsum("kdd->d", second))
        return np.asarray(np.linalg.eigvalsh(second / np.outer(spread, spread))[:, -1])

    def halve(
        self, second: Array, weight: Array, D: int, heavy: int, light: int
    ) -> tuple[Array, Array]:
        d = HALF_NORMAL * _widest_axis(second[heavy] / weight[heavy])
        second = second.copy()
        second[[heavy, light]] = 0.5 * (second[heavy] - weight[heavy] * np.outer(d, d))
        return second, d


class _Tied(_Matrices):
    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (D, D)

    def estimate(self, second: Array, weight: Array, otherwise: Array) -> Array:
        total = float(weight.sum())
        return second / total if total > 0.0 else otherwise

    def inner_variance(self, second: Array, D: int) -> Array:
        return np.diagonal(second).copy()

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.broadcast_to(np.diagonal(covariances), (K, D))

    def add_ridge(self, covariances: Array, ridge: Array) -> Array:
        return super().add_ridge(covariances, np.atleast_2d(ridge).mean(axis=0))

    def moment(self, covariances: Array, weight: Array) -> Array:
        return float(weight.sum()) * covariances

    def inertia(self, second: Array, weight: Array) -> Array:
        return weight  # all components have the same covariance

    def halve(
        self, second: Array, weight: Array, D: int, heavy: int, light: int
    ) -> tuple[Array, Array]:
        d = HALF_NORMAL * _widest_axis(second / weight.sum())
        return second - weight[heavy] * np.outer(d, d), d


class _Diag(_Variances):
    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (K, D)

    def inner_variance(self, second: Array, D: int) -> Array:
        return np.asarray(second.sum(axis=0))

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return covariances

    def add_ridge(self, covariances: Array, ridge: Array) -> Array:
        return covariances + ridge

    def rescale(self, covariances: Array, scale: Array) -> Array:
        return covariances * scale**2

    def inertia(self, second: Array, weight: Array) -> Array:
        return np.asarray((second / _deviations(second.sum(axis=0)) ** 2).max(axis=1))

    def halve(
        self, second: Array, weight: Array, D: int, heavy: int, light: int
    ) -> tuple[Array, Array]:
        variances = np.maximum(second[heavy], 0.0) / weight[heavy]
        widest = int(variances.argmax())
        d = np.zeros(len(variances))
        d[widest] = HALF_NORMAL * np.sqrt(variances[widest])
        second = second.copy()
        second[[heavy, light]] = 0.5 * (second[heavy] - weight[heavy] * d * d)
        return second, d


class _Spherical(_Variances):
    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (K,)

    def inner_variance(self, second: Array, D: int) -> Array:
        return np.full(D, float(second.sum()))

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.broadcast_to(covariances[:, None], (K, D))

    def add_ridge(self, covariances: Array, ridge: Array) -> Array:
        return np.asarray(covariances + ridge.mean(axis=-1))

    def rescale(self, covariances: Array, scale: Array) -> Array:
        if (scale != scale[0]).any():
            raise DataError(
                "features have different scales, so spherical covariances don't stay spherical; "
                "use covariance_type 'diag'"
            )
        return np.asarray(covariances * scale[0] ** 2)

    def inertia(self, second: Array, weight: Array) -> Array:
        return second

    def halve(
        self, second: Array, weight: Array, D: int, heavy: int, light: int
    ) -> tuple[Array, Array]:
        # A sphere has no widest axis. Each split uses another axis, so that the halves differ.
        d = np.zeros(D)
        d[light % D] = HALF_NORMAL * np.sqrt(max(second[heavy], 0.0) / weight[heavy])
        second = second.copy()
        second[[heavy, light]] = 0.5 * (second[heavy] - weight[heavy] * (d @ d) / D)
        return second, d


COVARIANCES: dict[CovarianceType, Covariance] = {
    "full": _Full(),
    "tied": _Tied(),
    "diag": _Diag(),
    "spherical": _Spherical(),
}
