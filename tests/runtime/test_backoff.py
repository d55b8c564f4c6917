"""Pauses after faults, and what is logged of a fault that many jobs meet."""

from __future__ import annotations

import threading

import pytest
import redis
import structlog
from structlog.testing import LogCapture

from streamclust.errors import ServerError
from streamclust.runtime.backoff import Backoff, Faults
from streamclust.store.reply.limits import UnreadableError

AWAY = redis.ConnectionError("away")


def backoffs(logged: LogCapture, count: int) -> list[Backoff]:
    """Backoffs of models that share a server."""
    log = structlog.wrap_logger(structlog.PrintLogger(), [logged], structlog.BoundLogger)
    faults = Faults()
    return [
        Backoff("the server", threading.Event(), log.bind(model=f"m{number}"), faults=faults)
        for number in range(count)
    ]


def test_a_fault_that_many_models_meet_is_logged_once_and_so_is_its_end() -> None:
    logged = LogCapture()
    models = backoffs(logged, 5)
    for _ in range(3):
        for model in models:
            assert model.pause(AWAY) > 0.0
    [lost] = logged.entries
    assert (lost["event"], lost["server"], lost.get("model")) == ("server_lost", "the server", None)
    # When it works again for one after another Then the last one says so
    for model in models:
        assert len(logged.entries) == 1
        model.over()
    assert [entry["event"] for entry in logged.entries] == ["server_lost", "server_back"]
    # and the next fault is a new one
    models[0].pause(AWAY)
    assert [entry["event"] for entry in logged.entries][2:] == ["server_lost"]


def test_an_entry_that_cannot_be_read_is_the_fault_of_one_model() -> None:
    logged = LogCapture()
    first, second = backoffs(logged, 2)
    first.pause(UnreadableError("entry 1-0 of points"))
    second.pause(AWAY)
    assert [(entry["event"], entry.get("model")) for entry in logged.entries] == [
        ("entry_unreadable", "m0"),
        ("server_lost", None),
    ]


def test_pauses_grow_and_a_fault_that_does_not_pass_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    [model] = backoffs(LogCapture(), 1)
    assert [round(model.pause(AWAY), 1) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    with pytest.raises(ServerError):
        model.pause(redis.ResponseError("ERR no such thing"))
