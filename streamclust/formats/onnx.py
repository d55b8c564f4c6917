"""Export of models to ONNX: a graph that any ONNX runtime can evaluate.

skl2onnx converts the fitted estimator of scikit-learn (`streamclust.formats.export.to_sklearn`) to
a graph in float64. The graph computes distances from differences of squares, which would lose all
digits far from the origin. So its first step subtracts the average of the means.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import MissingExtraError
from streamclust.formats.export import to_sklearn
from streamclust.models import GaussianMixture, KMeans
from streamclust.models.family import by_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamclust.arrays import Labels
    from streamclust.models import MixtureParams
    from streamclust.models.family import Family

_OPSET = 18
"""Version of the ONNX operators: onnxruntime 1.14 (2023) and newer have it."""

_OUTPUTS = {
    "label": ("Gather", ["ids", "label_rows"], "label", True),
    "scores": ("Identity", ["scores_raw"], "distances", False),
    "probabilities": ("Identity", ["probabilities_raw"], "probabilities", False),
    "score_samples": ("Reshape", ["score_samples_raw", "flat"], "log_density", True),
}
"""Output of skl2onnx -> operator, its inputs, output of the graph, and whether it is (N,)."""


def to_onnx(family: Family[Any], params: Any, ids: Labels, summary: Mapping[str, Any]) -> bytes:
    """Return the bytes of an ONNX model.

    The input `X` is float64 of shape (N, D), without NaN. The outputs:

    * `label`, int64 (N,): the component of each point, by its ID.
    * K-means: `distances` (N, K), to the centroids; in scaled features if the model has scales. For
      the metric cosine, these are distances of unit vectors: 1 - cos is half of their squares.
    * Mixtures: `probabilities` (N, K), the responsibilities, and `log_density` (N,), in nats.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    ids : array of int, shape (K,)
        IDs of the components.
    summary : mapping
        Stored as JSON in the metadata entry `summary`.

    Raises
    ------
    MissingExtraError
        If skl2onnx isn't installed.
    """
    try:
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType
    except ImportError as error:
        raise MissingExtraError("a .onnx file needs skl2onnx: pip install onnx skl2onnx") from error
    pipeline, has_densities = by_kind(PIPELINES, family.kind, "PIPELINES")
    estimator = pipeline(family.with_components(len(params.means)), params)
    model = skl2onnx.to_onnx(
        estimator,
        initial_types=[("X", DoubleTensorType([None, params.means.shape[1]]))],
        options={id(estimator.steps[-1][1]): {"score_samples": True}} if has_densities else None,
        target_opset=_OPSET,
    )
    _finish(model.graph, ids)
    model.metadata_props.add(key="summary", value=json.dumps(dict(summary)))
    return bytes(model.SerializeToString())


def _kmeans(family: Family[Any], params: Any) -> Any:
    """Return a pipeline of scikit-learn; for the Euclidean metric, it subtracts a center first."""
    if params.scale is None and family.metric == "euclidean":
        params = replace(params, scale=np.ones(params.centroids.shape[1]))
    return to_sklearn(family, params)


def _mixture(family: Family[Any], params: MixtureParams) -> Any:
    """Return a pipeline of scikit-learn that subtracts the average of the means first."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    center = params.means.mean(axis=0)
    fitted = to_sklearn(family, replace(params, means=params.means - center))
    scaler = StandardScaler(with_std=False).fit(params.means)
    scaler.mean_ = center
    return make_pipeline(scaler, fitted)


PIPELINES: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    KMeans.kind: (_kmeans, False),
    GaussianMixture.kind: (_mixture, True),
}
"""Kind of a family -> a function that returns a pipeline of scikit-learn, and whether it has
densities."""


def _finish(graph: Any, ids: Labels) -> None:
    """Replace the outputs of skl2onnx by the outputs that `to_onnx` documents."""
    from onnx import helper, numpy_helper

    for name, values in (("ids", ids), ("flat", [-1])):
        array = numpy_helper.from_array(np.asarray(values, np.int64), name)
        graph.initializer.append(array)
    names_of_outputs = [output_info.name for output_info in graph.output]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}_raw" if name in names_of_outputs else name for name in names]
    del graph.output[:]
    graph.node.append(helper.make_node("Reshape", ["label_raw", "flat"], ["label_rows"]))
    for name in names_of_outputs:
        operator, inputs, output, is_flat = _OUTPUTS[name]
        graph.node.append(helper.make_node(operator, inputs, [output]))
        kind = helper.np_dtype_to_tensor_dtype(
            np.dtype(np.int64 if name == "label" else np.float64)
        )
        shape = [None] if is_flat else [None, len(ids)]
        graph.output.append(helper.make_tensor_value_info(output, kind, shape))
