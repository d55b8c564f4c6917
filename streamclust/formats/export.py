"""Exports models to scikit-learn, JSON, NumPy's .npz, and safetensors."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import solve_triangular

from streamclust.errors import DataError, MissingExtraError
from streamclust.files import write_whole
from streamclust.models import GaussianMixture, KMeans
from streamclust.models.family import by_kind
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.formats.model import Model
    from streamclust.models import KMeansParams, MixtureParams


def to_sklearn(model: Model) -> Any:
    """Return a fitted ``sklearn.cluster.KMeans`` or ``sklearn.mixture.GaussianMixture``.

    For K-means of scaled features, return a fitted pipeline of ``StandardScaler`` and ``KMeans``.

    Raises
    ------
    MissingExtraError
        If scikit-learn isn't installed.
    """
    try:
        return by_kind(SKLEARN, model.kind, "SKLEARN")(model.family, model.params)
    except ImportError as error:
        raise MissingExtraError(
            "to_sklearn needs scikit-learn: pip install scikit-learn"
        ) from error


def _sklearn_kmeans(_family: KMeans, params: KMeansParams) -> Any:
    return _sklearn_plain(params.centroids) if params.scale is None else _sklearn_scaled(params)


def _sklearn_plain(centroids: Array) -> Any:
    from sklearn.cluster import KMeans

    fitted = KMeans(len(centroids), init=centroids, n_init=1, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about equal centroids
        fitted.fit(centroids)  # sets all attributes of a fitted estimator
    fitted.cluster_centers_ = centroids.copy()
    return fitted


def _sklearn_scaled(params: KMeansParams) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(params.centroids)
    scaler.mean_, scaler.scale_ = params.centroids.mean(axis=0), params.scale
    scaler.var_ = scaler.scale_**2
    return make_pipeline(scaler, _sklearn_plain(scaler.transform(params.centroids)))


def _sklearn_mixture(family: GaussianMixture, params: MixtureParams) -> Any:
    from sklearn.mixture import GaussianMixture as SklearnMixture

    fitted = SklearnMixture(
        family.n_components, covariance_type=family.covariance_type, warm_start=True
    )
    fitted.weights_ = params.weights.copy()
    fitted.means_ = params.means.copy()
    fitted.covariances_ = params.covariances.copy()
    fitted.precisions_cholesky_ = _precision_root(params)
    root = fitted.precisions_cholesky_
    fitted.precisions_ = root @ np.swapaxes(root, -1, -2) if _is_matrix(params) else root**2
    fitted.n_features_in_ = params.means.shape[1]
    fitted.converged_, fitted.n_iter_, fitted.lower_bound_ = True, 0, -np.inf
    return fitted


SKLEARN: dict[str, Callable[[Any, Any], Any]] = {
    KMeans.kind: _sklearn_kmeans,
    GaussianMixture.kind: _sklearn_mixture,
}
"""Kind of a family -> the function that makes a fitted model of scikit-learn."""


def _is_matrix(params: MixtureParams) -> bool:
    return params.covariance_type in ("full", "tied")


def _precision_root(params: MixtureParams) -> Array:
    """Return scikit-learn's `precisions_cholesky_`: L^-T for Sigma = L L^T."""
    root = params.root
    if not _is_matrix(params):
        return 1.0 / root
    one = np.eye(params.means.shape[1])
    if params.covariance_type == "tied":
        return np.asarray(solve_triangular(root, one, lower=True).T)
    return np.array([solve_triangular(each, one, lower=True).T for each in root])


def named_arrays(model: Model) -> dict[str, NDArray[Any]]:
    """Return the model's arrays by name, with `mass`, and with `ids` if K adapts."""
    arrays: dict[str, NDArray[Any]] = {**model.family.to_arrays(model.params), "mass": model.mass}
    return {**arrays, "ids": model.ids} if len(model.ids) else arrays


def to_json(model: Model) -> str:
    """Return the model's summary and arrays as JSON."""
    arrays = {name: array.tolist() for name, array in named_arrays(model).items()}
    return exact_json({**model.summary(), **arrays})


def to_npz(model: Model) -> bytes:
    """Return the bytes of an .npz file of the arrays; its entry `summary` is JSON text."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**named_arrays(model), "summary": np.array(_summary(model))}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _summary(model: Model) -> str:
    return json.dumps(model.summary())


def _safetensors(model: Model) -> bytes:
    from streamclust.formats.model import encode_model

    return encode_model(model)


_WRITERS: dict[str, Callable[[Model], bytes]] = {
    ".safetensors": _safetensors,
    ".npz": to_npz,
    ".json": lambda model: to_json(model).encode(),
}


def save(model: Model, path: str | Path) -> None:
    """Write the model to a file: .safetensors, .npz or .json; see `streamclust.files.new_file`.

    Raises
    ------
    DataError
        If the suffix is unknown, or the file can't be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise DataError(f"can't write {path}: expected a name in {', '.join(_WRITERS)}")
    write_whole(path, _WRITERS[suffix](model))
