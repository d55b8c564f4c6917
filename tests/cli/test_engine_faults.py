"""One clear line, and no change, if an engine or its data fail during a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamclust.engine.cut import cut_files
from tests.support.commands import invoke
from tests.support.points import blobs
from tests.support.refit_helpers import poor_workspace, save
from tests.support.servers import free_port
from tests.support.workers import drain
from tests.support.workspace import Workspace

COMMANDS = pytest.mark.parametrize(
    "command", [["refit", "m"], ["score", "m"], ["select", "m", "--k", "2..3"]]
)


@pytest.fixture
def workspace(
    tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A model that has learned 90 points."""
    monkeypatch.chdir(tmp_path)
    made = Workspace(tmp_path, valkey_url, namespace)
    drain(poor_workspace(made, blobs(90)))
    return made


def fails(workspace: Workspace, *arguments: str) -> tuple[int, str]:
    """Return the exit code of a command that changes nothing, and its last line."""
    before = workspace.state("m")
    done = invoke(*arguments)
    assert workspace.state("m") == before
    assert "Traceback" not in done.output
    return done.exit_code, done.output.splitlines()[-1]


@COMMANDS
def test_a_file_that_changes_during_a_fold_is_named(
    workspace: Workspace, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(workspace.folder / "points.csv", blobs(600))

    def cut_and_append(*arguments: Any, **options: Any) -> Any:
        parts = cut_files(*arguments, **options)
        with path.open("a") as file:
            file.write("1.0,2.0\n")
        return parts

    monkeypatch.setattr("streamclust.refit.sources.cut_files", cut_and_append)
    code, line = fails(workspace, *command, "--data", "points.csv", "--engine", "threads")
    assert code == 1
    assert line.startswith("error: points.csv was changed while it was read: it had ")
    assert line.endswith("start again when no program writes to it")


@COMMANDS
def test_a_required_engine_at_an_unknown_address_is_named(
    workspace: Workspace, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="the extra dask isn't installed")
    address = f"tcp://127.0.0.1:{free_port()}"
    monkeypatch.setenv("STREAMCLUST_ENGINE__ADDRESS", address)
    monkeypatch.setenv("STREAMCLUST_ENGINE__REQUIRED", "true")
    monkeypatch.setattr("streamclust.engine.connection.CONNECT", 0.2)
    monkeypatch.setattr("streamclust.engine.dask.REQUIRED_WORKERS", 1.0)
    code, line = fails(workspace, *command, "--engine", "dask")
    assert code == 3
    assert line.startswith(f"error: no connection to the Dask scheduler {address}: ")
    assert "check engine.address and the workers" in line
