"""Jobs in threads: what ends one, what is said of it, and what becomes of the others."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import structlog
from structlog.testing import LogCapture, capture_logs

from streamclust.errors import ModelsFailedError, ServerError
from streamclust.runtime.job import Job
from streamclust.runtime.threads import run_together
from streamclust.worker.daemon import _thread


def jobs(logged: LogCapture, *names: str) -> list[Any]:
    log = structlog.wrap_logger(structlog.PrintLogger(), [logged], structlog.BoundLogger)
    stop, nothing = threading.Event(), cast("Any", None)
    return [Job(name, nothing, nothing, stop, False, log.bind(model=name)) for name in names]


def fails(job: Job) -> str:
    if job.name == "bad":
        raise ServerError("no such luck")
    if job.name == "odd":
        raise KeyError("x" * 10_000)
    assert not job.stop.is_set()
    return job.name


def test_others_go_on_and_all_failures_are_told_in_the_end() -> None:
    logged = LogCapture()
    four = jobs(logged, "b", "odd", "a", "bad")
    with pytest.raises(ModelsFailedError) as failure:
        run_together(four, fails, "model_failed", stop_others=False)
    assert not four[0].stop.is_set()
    bad, odd = str(failure.value).splitlines()
    assert bad == "model 'bad' failed: no such luck"
    assert odd.startswith("model 'odd' failed: unexpected error: KeyError('xxx")
    assert len(odd) < 400
    said = {entry["model"]: entry["event"] for entry in logged.entries}
    assert said == {"bad": "model_failed", "odd": "model_failed"}


def test_the_first_failure_stops_the_others_where_that_is_asked_for() -> None:
    [job, other] = jobs(LogCapture(), "bad", "waits")
    with pytest.raises(ServerError, match="no such luck"):
        run_together(
            [job, other], lambda j: j.stop.wait(30.0) if j is other else fails(j), "model_failed"
        )
    assert job.stop.is_set()


def test_a_thread_that_the_system_refuses_brings_the_others_to_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if thread.name == "second":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    three = jobs(LogCapture(), "first", "second", "third")
    with pytest.raises(ModelsFailedError, match=r"'second' failed: too many threads.*TasksMax"):
        run_together(three, lambda job: job.stop.wait(30.0), "model_failed", stop_others=False)


def test_a_helper_thread_does_not_end_in_silence() -> None:
    def broken() -> None:
        raise LookupError("helper")

    def work(_: Job) -> None:
        helper = threading.Thread(target=broken, name="helper")
        helper.start()
        helper.join()

    with capture_logs() as logged:
        run_together(jobs(LogCapture(), "m"), work, "model_failed")
    [entry] = logged
    assert (entry["event"], entry["thread"], entry["log_level"]) == (
        "thread_failed",
        "helper",
        "error",
    )
    assert repr(entry["exc_info"]) == "LookupError('helper')"


def test_the_refit_schedule_begins_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.worker.daemon._FIRST_PAUSE", 0.01)
    calls: list[int] = []

    def beside() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("no such luck")

    with capture_logs() as entries:
        thread: threading.Thread = _thread(beside, threading.Event())
        thread.start()
        thread.join(30.0)
    assert len(calls) == 3
    assert [entry["event"] for entry in entries] == ["refit_schedule_failed"] * 2


def test_look_is_called_while_jobs_are_at_work() -> None:
    looked = threading.Event()
    found = run_together(
        jobs(LogCapture(), "m"), lambda _: looked.wait(30.0), "failed", look=looked.set
    )
    assert found == [True]
