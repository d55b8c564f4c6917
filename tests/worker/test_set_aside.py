"""A batch that the numerics can't learn is set aside with a reason, and the model goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from streamclust.errors import DataError
from streamclust.online.learner import StreamLearner
from streamclust.store.server.connect import Address, open_server
from streamclust.worker.rejected_batches import RejectedBatches
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.worker_fixture import GIVEN, WorkerFixture, a_batch, bad_batch
from tests.support.workers import WorkerThread
from tests.support.workspace import Workspace

POISON = 12345.0
CANNOT = "batch_rejected"


@pytest.fixture
def fixture(address: Address, namespace: str) -> Iterator[WorkerFixture]:
    with open_server(address) as server:
        yield WorkerFixture(server.client(), namespace)


@pytest.fixture(autouse=True)
def fragile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Exception]]:
    """Let every learner fail at a batch with a certain number, by what the first of these makes."""
    learn = StreamLearner.learn
    makes: list[Callable[[], Exception]] = [
        lambda: np.linalg.LinAlgError("4-th leading minor not positive definite")
    ]

    def fails(self: Any, state: Any, X: Any, w: Any = None, **more: Any) -> Any:
        if len(X) and X[0, 0] == POISON:
            raise makes[0]()
        return learn(self, state, X, w, **more)

    monkeypatch.setattr(StreamLearner, "learn", fails)
    return makes


def poison(number: int, n: int = 30, **changes: Any) -> Any:
    X = np.full((n, 2), POISON)
    return a_batch(number, X=X, **changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.linalg.LinAlgError("not positive definite"),
        lambda: DataError("a covariance has no Cholesky factor"),
        lambda: FloatingPointError("overflow encountered in square"),
        lambda: ZeroDivisionError("float division by zero"),
    ],
)
def test_it_costs_itself_alone(
    fixture: WorkerFixture,
    fragile: list[Callable[[], Exception]],
    make: Callable[[], Exception],
) -> None:
    fragile[0] = make
    learning = fixture.learning(init=GIVEN)
    # Given good batches, around one that can't be learned and has a bad point too
    learning.learn(a_batch(1))
    learning.learn(poison(2, dead=bad_batch(2, 1).dead))
    learning.learn(a_batch(3))
    learning.leave()
    # Then the others are learned, and each point is accounted for
    assert fixture.committed().learner.points == 60
    assert fixture.committed().dead == 31
    assert fixture.committed().position == {"points": "3-0"}
    # and `:dead` says what was set aside, and why
    entries: Any = fixture.client.xrange(fixture.keys.dead)
    assert [entry_id for entry_id, _ in entries] == [b"30-0", b"31-0"]
    letter = entries[1][1]
    assert (letter[b"stream"], letter[b"id"], letter[b"index"]) == (b"points", b"2-0", b"-1")
    assert letter[b"reason"].decode() == (
        f"batch of 30 points, the entries after 1-0 up to 2-0: can't be learned: {make()}"
    )
    assert [entry["reason"] for entry in fixture.said(CANNOT)] == [str(make())]


def test_it_is_said_once_per_kind_of_reason(
    fixture: WorkerFixture, fragile: list[Callable[[], Exception]]
) -> None:
    learning = fixture.learning(init=GIVEN)
    for number, reason in enumerate(("3 of 4", "17 of 20", "another"), start=1):
        fragile[0] = lambda reason=reason: ValueError(reason)  # type: ignore[misc]
        learning.learn(poison(2 * number))
        learning.learn(a_batch(2 * number + 1))
    assert [entry["reason"] for entry in fixture.said(CANNOT)] == ["3 of 4", "another"]


@pytest.mark.parametrize("commits", [{"points": 10**9, "every": "1d"}, {"points": 1}])
def test_the_numbers_of_dead_letters_depend_on_no_cadence(
    fixture: WorkerFixture, commits: dict[str, Any]
) -> None:
    learning = fixture.learning(init=GIVEN, commit=commits)
    for batch in (bad_batch(1, 3), poison(2), bad_batch(3, 2), a_batch(4), poison(5, n=1)):
        learning.learn(batch)
    learning.leave()
    entries: Any = fixture.client.xrange(fixture.keys.dead)
    numbers = [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
    assert numbers == [1, 2, 3, 33, 34, 35, 36]
    assert fixture.committed().dead == 36


def test_a_batch_of_several_streams_has_a_letter_for_each(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN, streams=["a", "b", "c"])
    position = {"a": "7-0", "b": "8-0", "c": "0-0"}
    learning.learn(poison(1, position=position))
    entries: Any = fixture.client.xrange(fixture.keys.dead)
    assert [(fields[b"stream"], fields[b"id"]) for _, fields in entries] == [
        (b"a", b"7-0"),
        (b"b", b"8-0"),
    ]
    # and never more letters than points
    position = {"a": "9-0", "b": "9-0", "c": "9-0"}
    learning.learn(poison(2, n=1, position=position))
    assert fixture.committed().dead == 31
    assert fixture.client.xlen(fixture.keys.dead) == 3


def test_after_ten_in_a_row_it_is_the_model_that_fails(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN)
    # Given a model that has learned, and can't any more
    learning.learn(a_batch(1))
    for number in range(2, 12):
        learning.learn(poison(number))
    # Then the next points are left where they are
    for _ in range(2):
        with pytest.raises(DataError, match="10 batches in a row could not be learned"):
            learning.learn(poison(12))
    assert fixture.committed().position == {"points": "11-0"}
    assert fixture.committed().dead == 300
    # and one that can be learned is
    learning.learn(a_batch(12))
    learning.learn(poison(13))
    learning.leave()
    assert fixture.committed().learner.points == 60


def test_a_fit_of_the_coreset_that_fails_costs_no_batch(
    fixture: WorkerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise np.linalg.LinAlgError("no factor")

    monkeypatch.setattr(StreamLearner, "solve", fails)
    # Given a coreset that is often solved, beside the stream
    learning = fixture.learning(coreset={"points": 200}, batch={"size": 60})
    for number in range(1, 120):
        learning.learn(a_batch(number, n=60))
    learning.leave()
    # Then all points are learned, and the failure is said
    assert fixture.committed().learner.points == 119 * 60
    assert fixture.committed().dead == 0
    failed = fixture.said("recluster_failed")
    assert failed[0]["error"] == "no factor"


def test_a_worker_goes_on_after_it(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write(
        {"m": kmeans(stream, batch={"size": 30, "linger": "50ms"}, commit={"points": 30})}
    )
    with WorkerThread(workspace) as worker, workspace.client as client:
        # Given a feed with a batch that can't be learned
        add_blocks(client, stream, blobs(300))
        worker.wait(lambda: workspace.committed("m") == 300)
        add_blocks(client, stream, np.full((30, 2), POISON))
        add_blocks(client, stream, blobs(300, seed=1))
        # Then the rest is learned
        worker.wait(lambda: workspace.committed("m") == 600)
        assert len(worker.events(CANNOT)) == 1
    assert worker.failure is None
    [letter] = workspace.dead("m")
    assert b"not positive definite" in letter[b"reason"]


def test_the_count_of_rejected_batches_outlives_a_session(fixture: WorkerFixture) -> None:
    rejected = RejectedBatches()
    assert rejected.in_a_row == 0
    rejected.in_a_row = 10
    learning = fixture.learning(init=GIVEN)
    learning._rejected = rejected
    with pytest.raises(DataError, match="in a row"):
        learning.learn(poison(1))
