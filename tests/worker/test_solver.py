"""Solves beside the stream: the worker's answers come early, and change no bit."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamclust import GaussianMixture, KMeans, StreamLearner
from streamclust.worker.solver import Solver
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace

BATCH = 64


@pytest.mark.parametrize("kind", ["kmeans", "mixture"])
def test_a_worker_that_solves_beside_the_stream_learns_what_the_library_does(
    kind: str, valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    X = blobs(40 * BATCH, D=4)
    settings = (kmeans if kind == "kmeans" else mixture)(
        f"{namespace}:points", coreset={"points": 200}, batch={"size": BATCH}
    )
    workspace = Workspace(tmp_path, valkey_url, namespace).write({"m": settings})
    with workspace.client as client:
        add_blocks(client, f"{namespace}:points", X, block=BATCH)
    drain(workspace)
    family: Any = KMeans(3) if kind == "kmeans" else GaussianMixture(3)
    learner = StreamLearner(family, warm_up=60, coreset=200)
    state, pending = learner.init(), []
    for batch in np.split(X, 40):
        state, _ = learner.update(state, batch)
        pending.append(state.recluster.pending)
    assert sum(each is not None for each in pending) > 1
    found, wanted = (
        family.to_arrays(each) for each in (workspace.newest("m").params, state.params)
    )
    assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in wanted.items()}


def waiting_for_an_answer(learner: StreamLearner[Any]) -> Any:
    """A state that a solve has begun in, and that nobody has answered."""
    state = learner.init()
    for batch in np.array_split(blobs(4000, D=4), 60):
        state, _ = learner.update(state, batch)
        if state.recluster.pending is not None:
            return state
    raise AssertionError("no solve began")


class Meeting(StreamLearner[Any]):
    """Its runs come in pairs, each in a thread of its own."""

    def solve(self, pending: Any, each: Any = map) -> Any:
        both = threading.Barrier(2, timeout=30.0)
        list(each(lambda _: both.wait(), range(4)))
        return replace(pending, answer=super().solve(pending, each).answer)


class Failing(StreamLearner[Any]):
    def solve(self, pending: Any, each: Any = map) -> Any:
        def run(number: int) -> int:
            return number // (number - 2)

        return list(each(run, range(4)))


def test_who_waits_for_an_answer_helps_to_find_it() -> None:
    learner = Meeting(KMeans(3), warm_up=60, coreset=200)
    state: Any = waiting_for_an_answer(learner)
    solver: Any = Solver(learner)
    solver.begin(state)
    assert solver.with_answer(state, 0) is state  # it isn't due
    found = solver.with_answer(state, state.recluster.pending.due)
    library: Any = StreamLearner(KMeans(3), warm_up=60, coreset=200)
    plain = library.solve(state.recluster.pending)
    answers = [each.answer.params.centroids for each in (found.recluster.pending, plain)]
    assert answers[0].tobytes() == answers[1].tobytes()


def test_what_a_run_raises_reaches_who_waits() -> None:
    learner = Failing(KMeans(3), warm_up=60, coreset=200)
    state = waiting_for_an_answer(StreamLearner(KMeans(3), warm_up=60, coreset=200))
    solver = Solver(learner)
    solver.begin(state)
    with pytest.raises(ZeroDivisionError):
        solver.with_answer(state, state.recluster.pending.due)
