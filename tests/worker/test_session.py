"""The loop of a session: short on the way to a kernel, and without points while it waits."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from streamclust import kernels
from streamclust.store.stream.batcher import Batch
from streamclust.worker import reading
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerThread, drain
from tests.support.workspace import Workspace


def callers(frame: FrameType | None) -> Iterator[str]:
    """Yield the names of the functions that called each other, from a frame upwards."""
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


@pytest.mark.parametrize(("make", "kernel"), [(kmeans, "kmeans_step"), (mixture, "mixture_step")])
def test_a_kernel_is_at_most_seven_calls_below_the_loop_of_a_session(
    make: Any, kernel: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, depths = getattr(kernels, kernel), []

    def recorded(*args: Any, **options: Any) -> Any:
        stack = list(callers(sys._getframe(1)))
        if "e_step_of_batch" in stack:
            depths.append(1 + stack.index("_awake"))
        return compute(*args, **options)

    monkeypatch.setattr(kernels, kernel, recorded)
    workspace.write({"m": make(workspace.stream(), batch={"size": 100})})
    add_blocks(workspace.client, workspace.stream(), blobs(600))
    drain(workspace)
    assert depths and max(depths) <= 7


def batches_in_memory() -> int:
    return sum(isinstance(found, Batch) for found in gc.get_objects())


def test_a_model_that_waits_keeps_no_batch_in_memory(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_IDLE", 0.1)  # until the thread that reads ahead ends
    workspace.write({"m": kmeans(workspace.stream(), batch={"size": 100})})
    add_blocks(workspace.client, workspace.stream(), blobs(600))
    with WorkerThread(workspace):
        wait_until(lambda: workspace.committed("m") == 600)
        wait_until(lambda: not batches_in_memory())
