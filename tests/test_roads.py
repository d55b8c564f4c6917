"""The library, its faces and the worker: the same feed in the same batches is the same model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner, river, sklearn
from streamclust.online.drift import Drift
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.workspace import Workspace

BATCH = 64
POLICY = HalfLife(points=500.0)
FORGETTING = {"kind": "points", "half_life": 500}
MORE: dict[str, Any] = {
    "scale": "standard",
    "coreset": 300,
    "drift": Drift(on_drift="forget"),
}
SETTINGS: dict[str, Any] = {
    "scale": "standard",
    "coreset": {"points": 300},
    "drift": {"detector": "page_hinkley", "on_drift": "forget"},
}


@pytest.mark.parametrize(
    ("kind", "K", "dtype"),
    [("kmeans", 3, np.float32), ("mixture", 3, np.float64), ("kmeans", "auto", np.float64)],
)
def test_all_roads_lead_to_the_same_bits(
    kind: str, K: Any, dtype: Any, valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    X = blobs(30 * BATCH, D=4).astype(dtype).astype(np.float64)
    batches = np.split(X, 30)
    workspace = Workspace(tmp_path, valkey_url, namespace)
    settings = (kmeans if kind == "kmeans" else mixture)(
        workspace.stream(), K=K, forgetting=FORGETTING, batch={"size": BATCH}, **SETTINGS
    )
    workspace.write({"m": settings})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X.astype(dtype), block=BATCH)
    workspace.drain()
    roads = {
        "worker": workspace.newest("m").family.to_arrays(workspace.newest("m").params),
        "library": library(kind, K, batches),
        "sklearn": by_sklearn(kind, K, batches),
        "river": by_river(kind, K, batches),
    }
    bits = {road: {k: v.tobytes() for k, v in arrays.items()} for road, arrays in roads.items()}
    for road, found in bits.items():
        assert found == bits["library"], road


def library(kind: str, K: Any, batches: list[Any]) -> Any:
    most, least = (50, 2) if K == "auto" else (K, None)
    family: Any = KMeans(most, min_clusters=least)
    if kind != "kmeans":
        family = GaussianMixture(most, min_components=least)
    learner = StreamLearner(family, POLICY, warm_up=60, **MORE)
    state = learner.init()
    for batch in batches:
        state, _ = learner.update(state, batch)
    return family.to_arrays(learner.in_units(state))


def by_sklearn(kind: str, K: Any, batches: list[Any]) -> Any:
    face: Any = sklearn.StreamingKMeans if kind == "kmeans" else sklearn.StreamingGaussianMixture
    estimator = face(K, forgetting=POLICY, warm_up=60, **MORE)
    for batch in batches:
        estimator.partial_fit(batch)
    if kind == "kmeans":
        return {"centroids": estimator.cluster_centers_, "scale": estimator._params.scale}
    return {name: getattr(estimator, f"{name}_") for name in ("weights", "means", "covariances")}


def by_river(kind: str, K: Any, batches: list[Any]) -> Any:
    face: Any = river.StreamingKMeans if kind == "kmeans" else river.StreamingGaussianMixture
    model = face(K, forgetting=POLICY, warm_up=60, **MORE)
    for batch in batches:
        model.learn_many(pd.DataFrame(batch, columns=list("abcd")))
    return model._family().to_arrays(model._params)


def test_neither_library_is_imported_before_its_face_is() -> None:
    # and a worker imports no readers of files
    code = (
        "import sys, streamclust.worker.daemon; assert 'scipy' not in sys.modules;"
        "assert not [name for name in sys.modules if name.startswith('streamclust.tables')];"
        "import streamclust, streamclust.client, streamclust.worker.daemon, streamclust.demo;"
        "streamclust.StreamLearner(streamclust.KMeans(2)).init();"
        "assert not {'sklearn', 'river', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
