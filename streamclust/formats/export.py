"""Export of models to scikit-learn, faiss, JSON and NumPy's .npz."""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import solve_triangular

from streamclust.errors import DataError, MissingExtraError
from streamclust.models import GaussianMixture, KMeans
from streamclust.models.family import by_kind
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.models import KMeansParams, MixtureParams
    from streamclust.models.family import Family


def to_sklearn(family: Family[Any], params: Any) -> Any:
    """Return a fitted ``sklearn.cluster.KMeans`` or ``sklearn.mixture.GaussianMixture``.

    For K-means of scaled features, return a fitted pipeline of ``StandardScaler`` and ``KMeans``;
    for the metric cosine, of ``Normalizer`` and ``KMeans``.

    Raises
    ------
    MissingExtraError
        If scikit-learn isn't installed.
    """
    try:
        return by_kind(SKLEARN, family.kind, "SKLEARN")(family, params)
    except ImportError as error:
        raise MissingExtraError(
            "to_sklearn needs scikit-learn: pip install scikit-learn"
        ) from error


def _sklearn_kmeans(family: KMeans, params: KMeansParams) -> Any:
    if family.metric == "cosine":
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer

        normalizer = Normalizer().fit(params.centroids)
        return make_pipeline(normalizer, _sklearn_plain(params.centroids))
    return _sklearn_plain(params.centroids) if params.scale is None else _sklearn_scaled(params)


def _sklearn_plain(centroids: Array) -> Any:
    from sklearn.cluster import KMeans

    fitted = KMeans(len(centroids), init=centroids, n_init=1, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of equal centroids
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


def to_faiss(family: Family[Any], params: Any) -> bytes:
    """Return the bytes of a flat index of faiss with the centroids, in float32.

    The index can be the coarse quantizer of an IVF index. Its metric is L2, or the inner product
    for the metric cosine.

    Raises
    ------
    MissingExtraError
        If faiss isn't installed.
    DataError
        If the model is a mixture, or has scaled features.
    """
    vectors = by_kind(FAISS, family.kind, "FAISS")(params)
    if vectors is None:
        raise DataError(
            "a faiss index needs a model of kind kmeans without scales (scale: none); write "
            "another format, such as .safetensors"
        )
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("a .faiss file needs faiss: pip install faiss-cpu") from error
    D = vectors.shape[1]
    index = faiss.IndexFlatIP(D) if family.metric == "cosine" else faiss.IndexFlatL2(D)
    index.add(np.ascontiguousarray(vectors, np.float32))
    return bytes(faiss.serialize_index(index).tobytes())


FAISS: dict[str, Callable[[Any], Array | None]] = {
    KMeans.kind: lambda params: params.centroids if params.scale is None else None,
    GaussianMixture.kind: lambda _params: None,
}
"""Kind of a family -> the vectors of the index; None if it needs more than plain distances."""


def to_json(summary: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a model's summary and arrays as JSON."""
    return exact_json({**summary, **{name: array.tolist() for name, array in arrays.items()}})


def to_npz(summary: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of an .npz file of a model's arrays; its entry `summary` is JSON text."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {**arrays, "summary": np.array(json.dumps(summary))}
    np.savez(buffer, **named)
    return buffer.getvalue()
