"""``streamclust status``: models, their workers, and what is still to learn."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.color import ColorSystem

from streamclust import KMeans, KMeansParams, Model
from streamclust.cli._status_summary import Summary
from streamclust.cli._status_table import notes, table_lines
from streamclust.cli._terminal import Terminal
from streamclust.formats.lost import Lost
from streamclust.store.model.health import Health
from streamclust.store.model.overview import Overview
from tests.support.commands import run_here, shown
from tests.support.many_models import fill
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_entry, add_points, blobs
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace, error_line, run


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, valkey_url, namespace)


def rows(workspace: Workspace, *arguments: str) -> dict[str, dict[str, Any]]:
    done = shown(workspace, "status", "--json", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return {row["model"]: row for row in json.loads(done.stdout)}


def table(workspace: Workspace, *arguments: str) -> list[list[str]]:
    done = shown(workspace, "status", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    where, *lines = done.stdout.splitlines()
    assert where.startswith(f"{workspace.url}  namespace {workspace.namespace}  20")
    return [line.split() for line in lines if line.strip()]


def test_before_anything_it_says_what_to_do(workspace: Workspace) -> None:
    workspace.write({})
    done = shown(workspace, "status")
    assert done.exit_code == 0
    assert "no models yet" in done.stdout
    assert "streamclust worker" in done.stdout
    assert rows(workspace) == {}


def test_a_model_goes_from_waiting_to_learned(
    tmp_path: Path, server_url: str, namespace: str
) -> None:
    # Given a model in the file, and points that nobody has learned
    workspace = Workspace(tmp_path, server_url, namespace)
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(90))
        add_entry(client, stream, x0="nan", x1="1")
    workspace.write({"m": mixture(stream)})
    # Then all of them are still to come
    row = rows(workspace)["m"]
    assert (row["worker"], row["phase"], row["published"], row["lag"]) == (
        None,
        "stopped",
        None,
        91,
    )
    # When they are learned Then nothing is left to do
    drain(workspace)
    row = rows(workspace)["m"]
    assert (row["worker"], row["phase"], row["lag"], row["dead"]) == (None, "stopped", 0, 1)
    assert row["points_seen"] == row["published"]["points"] == 90
    assert row["published"]["version"] == 1
    assert sum(row["weight_per_cluster"]) == pytest.approx(90, abs=1e-9)
    # and a person sees the same
    header, model, *_ = table(workspace)
    assert header[:7] == ["MODEL", "KIND", "WORKER", "VER", "POINTS", "RATE/S", "LAG"]
    assert header[7:] == ["LOST", "DEAD", "SCORE", "WEIGHTS"]
    assert model[:8] == ["m", "mixture", "3x2", "none", "1", "90", "-", "0"]
    assert model[8:10] == ["0", "1"]
    # When more comes Then that is the lag
    with workspace.client as client:
        add_points(client, stream, blobs(7))
    assert rows(workspace)["m"]["lag"] == 7


def test_one_model_is_shown_with_its_components(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(90))
    workspace.write({"m": kmeans(stream), "other": kmeans(stream)})
    for name in ("m", "other"):
        drain(workspace, name)
    assert [line[0] for line in table(workspace)] == ["MODEL", "m", "other", "SCORE"]
    *_, published, header, first, second, third = table(workspace, "m")
    assert published[:3] == ["version", "1,", "published"]
    assert header == ["#", "WEIGHT", "SHARE", "x0", "x1"]
    means = workspace.newest("m").means
    for number, component in enumerate((first, second, third)):
        assert component[:3] == [str(number), "30.0", "33.33%"]
        assert np.array(component[3:], float) == pytest.approx(means[number], rel=6e-3)


def test_names_of_features_are_shown_as_they_are(workspace: Workspace) -> None:
    with workspace.client as client:
        for number in range(60):
            add_entry(client, workspace.stream(), **{"t[/C]": str(number % 3), "[red]": "1.5"})
    drain(workspace.write({"m": kmeans(workspace.stream())}))
    assert ["#", "WEIGHT", "SHARE", "t[/C]", "[red]"] in table(workspace, "m")


def test_a_live_worker_is_named(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream), "idle": kmeans(workspace.stream("none"))})
    with WorkerProcess(workspace) as worker, workspace.client as client:
        add_points(client, stream, blobs(600))
        worker.wait(lambda: workspace.committed("m") == 600)
        found: dict[str, dict[str, Any]] = {}

        def reported() -> bool:
            """Whether both are shown: a report lives for a second, also on a busy machine."""
            found.update(rows(workspace))
            return found["m"]["points_seen"] == 600 and None not in {
                row["worker"] for row in found.values()
            }

        worker.wait(reported)
        assert found["m"]["worker"] == f"{os.uname().nodename}:{worker.process.pid}"
        assert found["m"]["phase"] == "learning"
        assert found["m"]["rate"] >= 0
        assert (found["idle"]["phase"], found["idle"]["points_seen"]) == ("warming", 0)
        assert worker.leave() == 0
    assert {row["worker"] for row in rows(workspace).values()} == {None}


def test_an_unknown_model_is_an_error_that_names_those_there_are(workspace: Workspace) -> None:
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(3))
    drain(workspace.write({"palette": kmeans(workspace.stream())}), "palette")
    line = error_line(run_here(workspace, "status", "pallete"), 1)
    assert "'pallete'" in line
    assert "palette" in line.replace("pallete", "")


def an_overview(name: str, **fields: Any) -> Overview:
    """An overview of a K-means model without a worker, and without troubles."""
    family = KMeans(2)
    model = Model(
        name,
        version=7,
        reason="step",
        family=family,
        params=KMeansParams(np.array([[0.0, 1.0], [2.0, 3.0]])),
        mass=np.array([1.0, 3.0]),
        position={"s": "1-0"},
        points=1_234_567,
        loss=-9.97e-05,
        time_ms=0.0,
    )
    figures = {"model": model, "health": None, "lag": 0, "lost": Lost(), "dead": 0}
    return Overview(name, **{**figures, **fields})


ODD = (
    an_overview("a-very-long-name-of-the-kind-that-generators-of-names-like-0001"),
    an_overview("失われた" * 8, lost=Lost(entries=165), dead=43, lag=987_654_321_012),
    an_overview("failing", health=Health(phase="failed", reason="no memory", rate=1e6)),
    an_overview("young", model=None, lag=None, lost=None, dead=None),
)


def status_lines(
    rows: Sequence[Overview], label: str, terminal: Terminal, *, detailed: bool
) -> list[str]:
    if not rows:
        return []
    return [*table_lines(rows, terminal), *notes(rows, label, terminal, detailed=detailed)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_status_fits_every_terminal(width: int) -> None:
    many = ODD * (250 if width == 80 else 25)
    for detailed, rows in ((False, ODD), (True, ODD[1:2]), (False, ()), (False, many)):
        lines = status_lines(
            rows, "redis://h", Terminal(width, interactive=True), detailed=detailed
        )
        assert max(map(cell_len, lines), default=0) <= width
        if rows and width >= 80:
            assert sum("-9.97e-05" in line for line in lines) == 3 * len(rows) // 4 or detailed


def test_what_needs_attention_stands_out_with_and_without_colours() -> None:
    coloured = "\n".join(
        status_lines(ODD, "redis://h", Terminal(120, ColorSystem.STANDARD), detailed=False)
    )
    plain = "\n".join(status_lines(ODD, "redis://h", Terminal(None), detailed=False))
    for figure in ("165", "failed"):
        assert f"\x1b[1;31m{figure}\x1b[0m" in coloured
    for figure in ("43", "none"):
        assert f"\x1b[1;35m{figure}\x1b[0m" in coloured
    lost = "失われた" * 8
    for remark in (
        f"{lost}: no worker: 987,654,321,012 entries wait; run `streamclust worker`",
        f"{lost}: LOST: 165 entries were removed from the stream before a worker read them",
        f"{lost}: DEAD: 43 points were refused; `streamclust dead {lost}` has the reasons",
        "failing: failed: no memory",
    ):
        assert remark in plain.splitlines()
    assert "\x1b" not in plain


def test_columns_without_news_give_way_to_the_score() -> None:
    [header, *_] = status_lines([an_overview("m")], "redis://h", Terminal(40), detailed=False)
    assert header.split() == ["MODEL", "WORKER", "VER", "LAG", "SCORE"]
    [header, *_] = status_lines(
        [an_overview("m", dead=1)], "redis://h", Terminal(40), detailed=False
    )
    assert header.split() == ["MODEL", "WORKER", "VER", "LAG", "DEAD", "SCORE"]


def test_the_score_has_a_name_a_unit_and_a_direction() -> None:
    lines = status_lines([an_overview("m")], "redis://h", Terminal(80), detailed=False)
    assert "SCORE of kmeans: inertia per point (mean squared distance; lower is better)" in lines


def test_unused_components_are_counted() -> None:
    used = an_overview("m")
    assert used.model is not None
    assert used.as_dict()["codebook"]["dead"] == 0
    assert not any("CODEBOOK" in line for line in lines_of(used))
    unused = an_overview("m", model=replace(used.model, mass=np.array([1.0, 1e4])))
    assert unused.as_dict()["codebook"]["dead"] == 1
    [line] = [line for line in lines_of(unused) if "CODEBOOK" in line]
    assert "1 of 2 components have less than a tenth of the average weight" in line


def lines_of(row: Overview) -> list[str]:
    return status_lines([row], "redis://h", Terminal(None), detailed=False)


def test_a_reason_that_the_worker_reports_too_is_shown_once() -> None:
    reason = "key s holds a string, expected a stream"
    health = Health(phase="failed", reason=f"{reason}; move it")
    row = an_overview("m", health=health, troubles=(reason, "key d can't be read"))
    assert row.reason == f"{reason}; move it; key d can't be read"


def test_a_long_name_leaves_room_for_the_remark() -> None:
    [remark] = [
        line
        for line in status_lines(
            [an_overview("m" * 90, dead=1)],
            "redis://h",
            Terminal(80, interactive=True),
            detailed=False,
        )
        if "DEAD:" in line
    ]
    assert remark.startswith(f"{'m' * 20}…{'m' * 19}: DEAD: 1 point was refused;")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Workspace:
    """300 models, of which 6 have failed, 3 wait for a worker, and the others learn."""
    folder = tmp_path_factory.mktemp("fleet")
    workspace = Workspace(folder, valkey_url, folder.name).write({})

    def health(name: str) -> Health | None:
        number = int(name[7:])
        if number % 50 == 7:
            return Health(phase="failed", reason=f"no memory for {name}")
        return None if number % 100 == 3 else Health(phase="learning", points=number, rate=2.0)

    names = [f"clicks-{number:04}" for number in range(300)]
    with workspace.client as client:
        fill(client, workspace.namespace, names, health, lambda name: int(name[7:]) % 100 // 10)
    return workspace


def test_of_many_models_a_page_shows_counts_and_those_with_problems(fleet: Workspace) -> None:
    done = run(fleet.folder, "status", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    _, counts, empty, order, header, *lines = done.stdout.splitlines()
    assert counts == "300 models: 6 failed, 3 stopped, 291 learning"
    assert (empty, order) == ("", "the first 25 models, those with problems first:")
    rows = [line.split() for line in lines[:25]]
    assert header.split()[:3] == ["MODEL", "KIND", "WORKER"]
    failed = [row[0] for row in rows if row[3] == "failed"]
    # the largest lag first
    assert failed == [
        *(f"clicks-{number:04}" for number in range(57, 300, 100)),
        *(f"clicks-{number:04}" for number in range(7, 300, 100)),
    ]
    assert lines[25].startswith("… and 275 more; --limit 0 shows all")
    assert len(lines) < 60
    assert "clicks-0057: failed: no memory for clicks-0057" in lines


def test_patterns_phases_and_orders_select_models(fleet: Workspace) -> None:
    [_, _, *found_lines] = shown(fleet, "status", "clicks-00*", "--sort", "lag").stdout.splitlines()
    found = [line.split()[0] for line in found_lines if line.startswith("clicks-")][:25]
    assert found == [f"clicks-{number:04}" for number in (*range(90, 100), *range(80, 90))] + [
        f"clicks-{number:04}" for number in range(70, 75)
    ]
    assert (
        "100 models: 2 failed, 1 stopped, 97 learning"
        in shown(fleet, "status", "--model", "clicks-00*").stdout
    )
    text = shown(fleet, "status", "clicks-0*", "--phase", "stopped", "--limit", "0").stdout
    assert (
        sum(line.startswith("clicks-") and "waits" not in line for line in text.splitlines()) == 3
    )
    text = shown(fleet, "status", "clicks-0001", "--phase", "failed").stdout
    assert "no model is in the phase failed" in text
    assert "'x-*'" in error_line(run_here(fleet, "status", "x-*"), 1)


def test_json_is_an_array_with_a_line_per_model(fleet: Workspace) -> None:
    lines = shown(fleet, "status", "--json").stdout.splitlines()
    assert len(lines) == 300
    rows_of_all = json.loads("\n".join(lines))
    assert [row["model"] for row in rows_of_all] == [f"clicks-{n:04}" for n in range(300)]
    limited = shown(fleet, "status", "--json", "--sort", "points", "--limit", "3").stdout
    assert [row["points_seen"] for row in json.loads(limited)] == [2000, 2000, 2000]
    few = shown(fleet, "status", "--json", "--phase", "damaged").stdout
    assert few == "[]\n"


def test_a_page_has_a_line_per_template() -> None:
    summary = Summary(lambda name: f"{name.partition('-')[0]}-{{tenant}}")
    rows = [an_overview(f"clicks-{number}", lag=number, dead=1) for number in range(30)]
    rows += [an_overview(f"views-{number}", lag=None) for number in range(3)]
    rows.append(an_overview("views-x", health=Health(phase="stalled", reason="hangs", rate=2.0)))
    shown = summary.first(rows, "problems", 3)
    assert [row.name for row in shown] == ["views-x", "clicks-29", "clicks-28"]
    head = summary.head("problems", Terminal(80))
    assert head[0] == "34 models: 1 stalled, 33 stopped"
    table = [line.split() for line in head[2:5]]
    assert table == [
        ["GROUP", "MODELS", "FAILED", "STOPPED", "POINTS", "RATE/S", "LAG", "LOST", "DEAD"],
        ["clicks-{tenant}", "30", "0", "30", "37,037,010", "0", "435", "0", "30"],
        ["views-{tenant}", "4", "1", "3", "4,938,268", "2", "0?", "0", "0"],
    ]
    assert summary.tail(Terminal(80))[0].startswith("… and 31 more; --limit 0 shows all")
    assert (
        max(map(cell_len, [*head, *summary.tail(Terminal(40)), *summary.head("lag", Terminal(40))]))
        <= 80
    )
