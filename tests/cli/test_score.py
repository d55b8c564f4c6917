"""``streamclust score`` and ``streamclust select``: figures for people, and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import invoke
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.refit_helpers import EAGER, poor_workspace, save
from tests.support.workers import drain
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(
    tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path, valkey_url, namespace)


@pytest.mark.parametrize("kind", [kmeans, mixture])
def test_a_score_over_the_stream_and_over_a_file(workspace: Workspace, kind: object) -> None:
    X = blobs(300)
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X)
    make = kmeans if kind is kmeans else mixture
    drain(workspace.write({"m": make(workspace.stream(), **EAGER)}))
    streamed = json.loads(invoke("score", "m", "--json").stdout)
    path = save(workspace.folder / "x.csv", X)
    filed = json.loads(invoke("score", "m", "--json", "--data", str(path)).stdout)
    last = workspace.position("m")[workspace.stream()]
    read = f"stream {workspace.stream()} after 0-0, up to {last}"
    assert (streamed.pop("source"), filed.pop("source")) == (read, str(path))
    assert filed.pop("engine") == streamed.pop("engine")
    assert filed == pytest.approx(streamed)
    assert (filed["points"], filed["n_components"]) == (300, 3)
    lines = invoke("score", "m").output.splitlines()
    assert [line.split()[0] for line in lines] == [
        "points",
        "components",
        "J",
        "log-likelihood",
        "AIC",
        "BIC",
        "silhouette",
    ]


def test_a_selection_draws_its_picture(workspace: Workspace) -> None:
    # Given a model that no worker has begun with
    poor_workspace(workspace, blobs(300))
    done = invoke("select", "m", "--k", "1..5", "--restarts", "1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split()[:3] == ["K", "J/N", "LOG-LIK/N"]
    assert lines[3].endswith("silhouette")
    assert lines[-1] == "chart: m-select.png"
    assert max(map(len, lines)) <= 80
    assert (workspace.folder / "m-select.png").read_bytes().startswith(b"\x89PNG")
    # and JSON without a picture
    found = json.loads(invoke("select", "m", "--k", "2,3", "--no-png", "--json").stdout)
    assert [each["n_components"] for each in found["scores"]] == [2, 3]
    assert (found["choice"]["silhouette"], found["png"]) == (3, None)


def test_a_selection_without_matplotlib_prints_its_table(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor_workspace(workspace, blobs(90))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = invoke("select", "m", "--k", "2,3", "--restarts", "1")
    assert done.exit_code == 0, done.output
    assert "no chart: it needs matplotlib (pip install matplotlib)" in done.stderr
    assert done.stdout.split()[:2] == ["K", "J/N"]
    assert "chart:" not in done.stdout
    asked = invoke("select", "m", "--k", "2,3", "--png", "x.png")
    assert asked.exit_code == 1
    assert "the chart needs matplotlib: pip install matplotlib" in asked.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["score", "nobody"], 2, "model 'nobody' isn't configured; configured models: m"),
        (["score", "m"], 1, "model 'm' has no state"),
        (["select", "m", "--k", "20..2"], 2, "--k '20..2': expected a range such as 2..20"),
        (["select", "m", "--k", "400"], 1, "90 distinct points are too few for 400 components"),
        (["select", "m", "--from", "2100-01-01"], 1, "no points in stream"),
        (["select", "m", "--k", "2,3", "--png", "no/where.png"], 1, "can't write no/where.png"),
        (["score", "m", "--last", "x"], 1, "has no state"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    workspace: Workspace, arguments: list[str], code: int, words: str
) -> None:
    poor_workspace(workspace, blobs(90))
    done = invoke(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.output.splitlines()[-1]


def test_a_model_that_is_warming_up_has_no_score(workspace: Workspace) -> None:
    feed = np.ones((30, 2))  # too few distinct points to begin
    with workspace.client as client:
        add_blocks(client, workspace.stream(), feed)
    drain(workspace.write({"m": kmeans(workspace.stream(), **EAGER)}))
    done = invoke("score", "m")
    assert done.exit_code == 1
    assert "still warming up" in done.output


def test_ctrl_c_ends_a_score_and_a_selection(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    monkeypatch.setattr("streamclust.cli._signals.CtrlC.is_set", lambda _: True)
    for command in (("score", "m"), ("select", "m", "--no-png")):
        done = invoke(*command)
        assert (done.exit_code, done.stdout) == (130, "")
        assert done.stderr.startswith("error: interrupted")
