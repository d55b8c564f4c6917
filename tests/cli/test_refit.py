"""``streamclust refit``: what it prints, and one clear line for what can't be done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import structlog

from tests.support.commands import invoke
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, add_entry, blobs
from tests.support.refit_helpers import poor_workspace, save
from tests.support.workers import drain
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(
    tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path, valkey_url, namespace)


def test_a_person_sees_all_runs_and_the_verdict(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    lines = invoke("refit", "m", "--restarts", "2", "--dry-run").stdout.splitlines()
    assert lines[0] == (
        "300 points, in memory; inertia per point (mean squared distance; lower is better):"
    )
    assert lines[1].split() == ["FIT", "SCORE"]
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["live", "model"],
        ["from", "live"],
        ["restart", "1"],
        ["restart", "2"],
    ]
    assert lines[-1].startswith("the refit is ")
    assert lines[-1].endswith("% better: m is unchanged")
    version = workspace.newest("m").version
    done = invoke("refit", "m")
    assert done.stdout.splitlines()[-1].endswith(f"better: swapped in place, version {version + 1}")
    again = invoke("refit", "m").stdout.splitlines()[-1]
    assert again == (
        "the refit is not better than the live model: m is unchanged "
        "(use --force to swap in the refit anyway)"
    )


def test_a_part_of_the_stream(workspace: Workspace) -> None:
    # Given entries of 30 points
    drain(poor_workspace(workspace, blobs(300)))
    with workspace.client as client:
        ids = [entry_id.decode() for entry_id, _ in client.xrange(workspace.stream())]

    def points(*arguments: str) -> int:
        found = json.loads(invoke("refit", "m", "--dry-run", "--json", *arguments).stdout)
        return int(found["points"])

    assert points("--last", "1e2") == 120
    assert points("--last", "1h") == points("--from", "2026-01-01") == 300
    assert points("--from", ids[3]) == 210
    assert points("--from", ids[3], "--to", ids[5]) == 90
    # and what the model hasn't learned yet is left for it
    with workspace.client as client:
        add_entry(client, workspace.stream(), f8=blobs(30).tobytes(), d="2")
    assert points() == points("--to", "2100-01-01") == 300


def test_columns_of_a_file_are_found_by_the_names_of_features(workspace: Workspace) -> None:
    with workspace.client as client:
        for x, y in blobs(90).tolist():
            add_entry(client, workspace.stream(), x1=str(x), x0=str(y))
    drain(workspace.write({"m": kmeans(workspace.stream())}))
    X = np.concatenate([blobs(300), 1000.0 + np.zeros((300, 1))], axis=1)[:, [2, 0, 1]]
    path = save(workspace.folder / "more.csv", X)
    path.write_text(path.read_text(encoding="utf-8").replace("x0,x1,x2", "other,x0,x1"))
    found = json.loads(invoke("refit", "m", "--json", "--force", "--data", str(path)).stdout)
    assert found["loss"] < 5.0
    assert workspace.newest("m").features == ("x1", "x0")


def test_a_pattern_selects_files_and_all_engines_give_one_result(workspace: Workspace) -> None:
    X = blobs(900)
    drain(poor_workspace(workspace, X[:90]))
    for number in range(3):
        save(workspace.folder / f"day-{number}.csv", X[300 * number : 300 * (number + 1)])
    whole = save(workspace.folder / "whole.csv", X)
    common = ("refit", "m", "--dry-run", "--json", "--restarts", "2")
    found = {
        kind: json.loads(invoke(*common, "--data", "day-*.csv", "--engine", kind).stdout)
        for kind in ("auto", "inline", "threads", "processes")
    }
    assert all(result.pop("engine")["kind"] == kind for kind, result in found.items())
    assert all(result == found["inline"] for result in found.values())
    report = found["inline"]
    assert (report["points"], report["source"]) == (900, "day-0.csv, day-1.csv, day-2.csv")
    one = json.loads(invoke(*common, "--data", str(whole)).stdout)
    assert report["loss"] == pytest.approx(one["loss"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody"], 2, "model 'nobody' isn't configured; configured models: m, new"),
        (["new"], 1, "model 'new' has no state in namespace"),
        (["m", "--from", "2100-01-01"], 1, "no points in stream"),
        (["m", "--to", "0-1"], 1, "no points in stream"),
        (["m", "--last", "often"], 2, "--last 'often': expected a duration (90s, 5m, 6h, 1d) or"),
        (["m", "--from", "noon"], 2, "--from 'noon': expected an entry ID such as"),
        (["m", "--to", "7-x"], 2, "--to '7-x': expected an entry ID such as"),
        (["m", "--from", "1-1", "--last", "1h"], 2, "--from and --last both set the first"),
        (["m", "--last", "1h", "--data", "config.yaml"], 2, "--data can't be combined with"),
        (["m", "--data", "wide.csv"], 1, "wide.csv has 3 columns, but model 'm' has 2"),
        (["m", "--data", "few.csv"], 1, "2 distinct points are too few for 3 components"),
        (["m", "--data", "none.csv"], 2, "does not exist"),
        (["m", "--data", "none-*.csv"], 2, "No file matches 'none-*.csv'"),
        (["m", "--data", "."], 2, "'.' is a folder; select its files by a pattern, such as"),
        (
            ["m", "--set", "engine.workers=0"],
            2,
            "engine.workers: got '0'; expected an integer >= 1, or auto",
        ),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    workspace: Workspace, arguments: list[str], code: int, words: str
) -> None:
    drain(poor_workspace(workspace, blobs(90)))
    config = (workspace.folder / "config.yaml").read_text(encoding="utf-8")
    more = "\n  new: {kind: kmeans, n_clusters: 2, streams: none}\n"
    (workspace.folder / "config.yaml").write_text(config.replace("models:", f"models:{more}", 1))
    save(workspace.folder / "wide.csv", np.ones((9, 3)))
    save(workspace.folder / "few.csv", np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]]))
    done = invoke("refit", *arguments)
    assert done.exit_code == code, done.output
    *_, line = (line for line in done.output.splitlines() if not line.startswith("usage: "))
    assert words in line
    assert "Traceback" not in done.output


def test_ctrl_c_leaves_the_model_unless_the_best_so_far_is_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given Ctrl-C after the first passes
    drain(poor_workspace(workspace, blobs(300)))
    looks = iter(range(10_000))
    monkeypatch.setattr("streamclust.cli._signals.CtrlC.is_set", lambda _: next(looks) >= 3)
    before = workspace.newest("m").version
    done = invoke("refit", "m")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "error: interrupted; nothing was changed"
    assert done.stdout == ""
    assert workspace.newest("m").version == before
    looks = iter(range(10_000))
    done = invoke("refit", "m", "--keep-best")
    assert done.exit_code == 130
    assert done.stdout.splitlines()[-1].startswith("interrupted; the refit is ")
    assert workspace.newest("m").reason == "refit"


def test_medoids_are_points_of_the_data(workspace: Workspace) -> None:
    X = blobs(300)
    drain(poor_workspace(workspace, X))
    lines = invoke("refit", "m", "--method", "kmedoids").stdout.splitlines()
    assert lines[0] == (
        "300 points, in memory; Euclidean distance per point (to the nearest medoid; lower is "
        "better):"
    )
    assert lines[3].split()[0] == "medoids"
    assert lines[3].endswith("  best of 4 runs")
    assert lines[-1].endswith(f"swapped in place, version {workspace.newest('m').version}")
    rows = {tuple(row) for row in X.tolist()}
    assert {tuple(row) for row in workspace.newest("m").means.tolist()} <= rows


def test_medoids_of_a_mixture_or_of_weighted_points_are_refused(workspace: Workspace) -> None:
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(90))
    drain(workspace.write({"m": mixture(workspace.stream())}))
    done = invoke("refit", "m", "--method", "kmedoids")
    assert done.exit_code == 2
    assert "is for kind kmeans" in done.output
    drain(workspace.write({"m": kmeans(workspace.stream())}, namespace=f"{workspace.namespace}-2"))
    save(workspace.folder / "w.csv", np.arange(30.0).reshape(10, 3) + 1.0)
    done = invoke("refit", "m", "--method", "kmedoids", "--data", "w.csv", "--weight-column", "x2")
    assert done.exit_code == 1
    assert "K-medoids takes few points, all of one weight" in done.output


def test_other_logs_are_left_as_they_are(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(90)))
    before = structlog.get_config()
    assert invoke("refit", "m", "--dry-run").exit_code == 0
    assert structlog.get_config() == before


def test_a_mixture_is_compared_by_its_log_likelihood(workspace: Workspace) -> None:
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(90))
    drain(workspace.write({"m": mixture(workspace.stream())}))
    head, _, live, *_ = invoke("refit", "m", "--dry-run").stdout.splitlines()
    assert head.endswith("log-likelihood per point (in nats; higher is better):")
    assert float(live.split()[2]) < 0.0
