"""The plane in which a model of many features is drawn, and covariances in this plane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.models.covariance import COVARIANCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array, Labels, Points
    from streamclust.formats.model import Model

_LOADINGS = 5

_NO_VARIANCE = 1e-12
"""Share of the largest variance below which a feature counts as constant."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The affine map y = A (x - centre).

    Parameters
    ----------
    id : str
        Differs between planes of one model.
    kind : {'principal', 'features'}
    centre : array of shape (D,)
    A : array of shape (2, D)
    axes : array of shape (2, D)
        The unit vectors of the axes, of features in comparable units.
    share : tuple of float
        Part of the variance along each axis, from 0 to 1.
    features : sequence of str
    """

    id: str
    kind: str
    centre: Array
    A: Array
    axes: Array
    share: tuple[float, float]
    features: Sequence[str]

    def points(self, X: Points) -> Array:
        """Return points (N, D), or means, as (N, 2)."""
        return np.asarray((X - self.centre) @ self.A.T)

    def covariances(self, params: Any) -> Array | None:
        """Return A Sigma A^T of each component, (K, 2, 2); None for parameters without shapes."""
        if params.covariance_type is None:
            return None
        A, covariances, K = self.A, params.covariances, len(params.means)
        if params.covariance_type == "full":
            return np.asarray(A @ covariances @ A.T)
        if params.covariance_type == "tied":
            return np.broadcast_to(A @ covariances @ A.T, (K, 2, 2))
        variances = COVARIANCES[params.covariance_type].variances(covariances, K, A.shape[1])
        return np.asarray(np.einsum("id,kd,jd->kij", A, variances, A))

    def as_dict(self) -> dict[str, Any]:
        """Return a description for JSON."""
        return {
            "id": self.id,
            "kind": self.kind,
            "axes": [self._axis(0), self._axis(1) if self.A[1].any() else None],
            "share": list(self.share),
        }

    def _axis(self, row: int) -> dict[str, Any]:
        axis = self.axes[row]
        largest = np.argsort(-np.abs(axis), kind="stable")[:_LOADINGS]
        loadings = [{"feature": self.features[d], "value": float(axis[d])} for d in largest]
        label = self.features[largest[0]] if self.kind == "features" else f"axis {row + 1}"
        return {"label": label, "loadings": [each for each in loadings if each["value"]]}


def feature_plane(
    model: Model, features: Sequence[str], x: int, y: int, residuals: Array | None = None
) -> Plane:
    """Return the plane of two features, in their units; of one feature if both are the same.

    `residuals` are those of `principal_plane`.
    """
    D = model.shape[1]
    A = np.zeros((2, D))
    A[0, x] = 1.0
    if x != y:
        A[1, y] = 1.0
    variance = np.diagonal(_scatter(model, residuals))
    total = float(variance.sum()) or 1.0
    share = float(variance[x]) / total, float(variance[y]) / total if x != y else 0.0
    return Plane(f"f{x}.{y}", "features", np.zeros(D), A, A, share, features)


def principal_plane(
    model: Model,
    features: Sequence[str],
    residuals: Array | None,
    number: int,
    before: Plane | None = None,
) -> Plane:
    """Return the plane of the two principal axes of the model's total variance.

    The total variance is the variance between the means plus the variance within the components.
    Features are divided by their standard deviations, unless the model itself doesn't scale them.

    Parameters
    ----------
    model : Model
    features : sequence of str
    residuals : array of shape (N, D), or None
        Differences of points and their means, for a model without covariances.
    number : int
        Number of the plane, for its ID.
    before : Plane, optional
        The earlier plane. The axes are then rotated within the plane so that points stay as close
        as possible to their earlier places. The centre stays the same.
    """
    S, scale, centre = _comparable(model, residuals)
    vectors = np.linalg.eigh(S)[1]
    axes = vectors[:, ::-1][:, :2].T
    if before is None or before.axes.shape != axes.shape:
        sides = axes[[0, 1], np.abs(axes).argmax(axis=1)]
        axes = axes * np.where(sides < 0.0, -1.0, 1.0)[:, None]
    else:
        # Orthogonal Procrustes: the covariance of places in the new plane and in the earlier one.
        U, _, Vt = np.linalg.svd(axes @ S @ (before.A * scale).T)
        axes, centre = (U @ Vt).T @ axes, before.centre
    share = _share(axes, S)
    return Plane(f"p{number}", "principal", centre, axes / scale, axes, share, features)


def with_share(plane: Plane, model: Model, residuals: Array | None) -> Plane:
    """Return a principal plane with the parts of the variance for a later version."""
    return replace(plane, share=_share(plane.axes, _comparable(model, residuals)[0]))


def _share(axes: Array, S: Array) -> tuple[float, float]:
    along = np.maximum(np.einsum("id,de,ie->i", axes, S, axes), 0.0) / (float(np.trace(S)) or 1.0)
    return float(along[0]), float(along[1])


def share_of_best(plane: Plane, model: Model, residuals: Array | None) -> float:
    """Return the variance of a model in a plane, relative to that in its own principal plane."""
    S, _, _ = _comparable(model, residuals)
    best = float(np.linalg.eigvalsh(S)[-2:].sum())
    return float(np.einsum("id,de,ie->", plane.axes, S, plane.axes)) / best if best > 0.0 else 1.0


def _comparable(model: Model, residuals: Array | None) -> tuple[Array, Array, Array]:
    """Return the covariance of features in comparable units, these units, and the centre."""
    S, D = _scatter(model, residuals), model.shape[1]
    scale = np.ones(D)
    if model.params.covariance_type or model.scale not in (None, "none"):
        variance = np.diagonal(S)
        known = variance > _NO_VARIANCE * float(variance.max(initial=0.0))
        scale = np.sqrt(np.where(known, variance, 1.0))
    return S / scale[:, None] / scale, scale, _shares(model) @ model.means


def _shares(model: Model) -> Array:
    total = float(model.mass.sum())
    return model.mass / total if total > 0.0 else np.full(len(model.mass), 1.0 / len(model.mass))


def _scatter(model: Model, residuals: Array | None) -> Array:
    """Return the total covariance of the features: between components, and within them."""
    share, params = _shares(model), model.params
    deviations = model.means - share @ model.means
    S = (deviations * share[:, None]).T @ deviations
    if params.covariance_type is not None:
        K, D = model.shape
        if params.covariance_type == "full":
            return np.asarray(S + np.einsum("k,kde->de", share, params.covariances))
        if params.covariance_type == "tied":
            return np.asarray(S + params.covariances)
        table = COVARIANCES[params.covariance_type]
        return np.asarray(S + np.diag(share @ table.variances(params.covariances, K, D)))
    if residuals is not None and len(residuals):
        S = S + residuals.T @ residuals / len(residuals)
    return np.asarray(S)


def sample_covariances(Y: Array, codes: Labels, numbers: Labels, least: int = 4) -> Array:
    """Return the covariance of the points of each component in the plane, (K, 2, 2).

    Components with fewer than `least` points have NaN.
    """
    found = np.full((len(numbers), 2, 2), np.nan)
    for k, number in enumerate(numbers):
        own = Y[codes == number]
        if len(own) >= least:
            deviations = own - own.mean(axis=0)
            found[k] = deviations.T @ deviations / len(own)
    return found
