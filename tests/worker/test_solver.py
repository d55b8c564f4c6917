"""Solves beside the stream: the worker's answers come early, and change no bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamclust import GaussianMixture, KMeans, StreamLearner
from tests.worker.harness import Site, add_blocks, blobs, kmeans, mixture

BATCH = 64


@pytest.mark.parametrize("kind", ["kmeans", "mixture"])
def test_a_worker_that_solves_beside_the_stream_learns_what_the_library_does(
    kind: str, valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    X = blobs(40 * BATCH, D=4)
    settings = (kmeans if kind == "kmeans" else mixture)(
        f"{namespace}:points", coreset={"points": 200}, batch={"size": BATCH}
    )
    site = Site(tmp_path, valkey_url, namespace).write({"m": settings})
    with site.client as client:
        add_blocks(client, f"{namespace}:points", X, block=BATCH)
    site.drain()
    family: Any = KMeans(3) if kind == "kmeans" else GaussianMixture(3)
    learner = StreamLearner(family, warm_up=60, coreset=200)
    state, pending = learner.init(), []
    for batch in np.split(X, 40):
        state, _ = learner.update(state, batch)
        pending.append(state.pending)
    assert sum(each is not None for each in pending) > 1
    found, wanted = (family.to_arrays(each) for each in (site.newest("m").params, state.params))
    assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in wanted.items()}
