"""The limit of open files: named where it is hit, raised where that is possible."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from streamclust import system_limits
from streamclust.store.server.connect import translated
from streamclust.system_limits import (
    cores_of_process,
    explained,
    is_out_of_files,
    open_files,
    raise_open_files,
)
from tests.support.model_settings import kmeans
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import STREAMCLUST, Workspace, environment

MODELS = 12
LOW = 16


def test_a_soft_limit_is_raised_as_far_as_the_hard_one_and_never_lowered() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(soft, 512)
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        assert raise_open_files(low - 100) == open_files() == low
        assert raise_open_files(low + 1) == open_files() == low + 1
        if hard != resource.RLIM_INFINITY:
            assert raise_open_files(hard + 1) == open_files() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "1600000 100000"}, 8),
        ({"own/cpu.max": "300000 100000", "cpu.max": "max 100000"}, 3),
        ({"own/cpu.max": "max 100000", "cpu.max": "400000 100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_a_process_has_the_cores_of_its_affinity_within_the_quota_of_its_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    (tmp_path / "cgroup").write_text("4:memory:/other\n0::/own\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(system_limits, "_CGROUPS", tmp_path)
    monkeypatch.setattr(system_limits, "_OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores_of_process() == cores


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_an_error_from_too_many_files_is_found_through_others(number: int) -> None:
    def lost() -> redis.ConnectionError:
        try:
            try:
                raise OSError(number, "Too many open files")
            except OSError as error:
                raise redis.ConnectionError("Error 24 connecting") from error
        except redis.ConnectionError as error:
            return error

    assert is_out_of_files(lost())
    assert "RLIMIT_NOFILE" in str(translated(lost(), "redis://here"))
    assert f"may have {open_files()} files" in explained(lost())
    assert not is_out_of_files(OSError(errno.ENOSPC, "No space left on device"))
    assert explained(OSError(errno.ENOSPC, "No space left")) == "no space left"
    loop = ValueError("a")
    loop.__cause__ = loop
    assert not is_out_of_files(loop)


def test_models_that_find_no_files_are_parked_beside_those_that_did(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given a worker whose limit is too low for its models
    workspace = Workspace(tmp_path, valkey_url, namespace)
    workspace.write(
        {
            f"m{number}": kmeans(
                workspace.stream(str(number)), batch={"max_entry_bytes": (1 << 20) + number}
            )  # with another limit each, so that they share no connection that reads
            for number in range(MODELS)
        }
    )
    log = tmp_path / "worker.log"

    def events(event: str) -> list[dict[str, Any]]:
        lines = log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        assert not any(line.startswith("Traceback") for line in lines)
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    with log.open("w") as out:
        worker = subprocess.Popen(
            [STREAMCLUST, "worker"],
            cwd=tmp_path,
            env=environment(),
            stderr=out,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (LOW, LOW)),  # noqa: PLW1509
        )
    try:
        # Then it says so at the start, and some have failed with that reason
        wait_until(lambda: events("model_failed"), LIMIT)
        [warning] = events("open_files_limited")
        assert warning["limit"] == LOW
        for failed in events("model_failed"):
            assert f"this process may have {LOW} files and connections open" in failed["error"]
        # while others are learned, and all leave in order
        with workspace.client as client:
            keys = [workspace.keys(f"m{number}").state for number in range(MODELS)]
            wait_until(lambda: client.exists(*keys), LIMIT)
        worker.terminate()
        assert worker.wait(LIMIT) in (1, 3)
    finally:
        worker.kill()
        worker.wait()
