"""The same options for all commands that read files; columns by the names of the model."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from streamclust.cli._table_options import Names
from streamclust.cli.main import cli
from tests.support.commands import shown
from tests.support.encoder_fixture import model_of
from tests.support.model_settings import kmeans
from tests.support.points import blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace

CENTROIDS = np.array([[0.0, 8.0], [5.0, 5.0], [8.0, 0.0]])
RIGHT = "code,distance\n2,0.5\n"


@pytest.fixture
def workspace(
    tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path, valkey_url, namespace)


def invoke(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), input=stdin)


# encode ---------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    model_of(4, CENTROIDS, features=("x", "y")).save("m.safetensors")
    return "m.safetensors"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("x,y\n8,0.5\n", []),
        ("y,x\n0.5,8\n", []),
        ("host,y,n,x\na,0.5,3,8\n", []),
        ("8,0.5\n", []),
        ("Y;X\n0,5;8\n", ["--decimal", ",", "--columns", "X,Y"]),
        ("y\tx\n0.5\t8\n", ["--delimiter", "tab"]),
        ("y,x\n0.5,8\n", ["--columns", "y, x"]),
        ('{"y": 0.5, "x": 8}\n', ["--kind", "jsonl"]),
        ("[8, 0.5]\n", ["--kind", "jsonl"]),
        ("2025,2026\n8,0.5\n", ["--header", "--columns", "2025,2026"]),
    ],
)
@pytest.mark.parametrize("source", ["stdin", "file"])
def test_columns_are_found_by_name(model: str, text: str, options: list[str], source: str) -> None:
    kind = "jsonl" if "jsonl" in options else "csv"
    Path(f"t.{kind}").write_text(text)
    where = ["--stdin"] if source == "stdin" else ["--file", f"t.{kind}"]
    done = invoke("encode", model, *where, *options, stdin=text)
    assert (done.exit_code, done.stdout) == (0, RIGHT), done.output


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n8,0\n", [], "stdin has no column 'x', a feature of model 'm'; it has a, b"),
        ("x,b\n8,0\n", [], "stdin has no column 'y', a feature of model 'm'; it has x, b"),
        ("X,Y\n8,0\n", [], "differ only in case or spaces: give --columns 'X,Y'"),
        ("x,x,y\n8,8,0\n", [], "stdin has 2 columns 'x'; rename them"),
        ("8,0,1\n", [], "stdin has 3 columns without names, but model 'm' has 2 features (x, y)"),
        ("x;y\n8;0\n", [], "is ';' the separator? Give --delimiter ';'"),
        ('{"a": 8, "b": 0}\n', ["--kind", "jsonl"], "stdin has no column 'x', a feature of"),
        ("x,y\nbad,worse\n", [], "all 1 rows are bad"),
    ],
)
def test_what_does_not_match_is_refused_by_name(
    model: str, text: str, options: list[str], message: str
) -> None:
    done = invoke("encode", model, "--stdin", *options, stdin=text)
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1]
    assert "\n2," not in done.stdout


def test_a_bad_line_of_a_feed_has_code_minus_one(model: str) -> None:
    text = "x,y\n8,0.5\nbroken\n8,nan\n0,8.5\n"
    done = invoke("encode", model, "--stdin", stdin=text)
    assert done.stdout == RIGHT + "-1,nan\n-1,nan\n0,0.5\n"
    assert "warning: row skipped: stdin line 3 has 1 cells; expected 2\n" in done.stderr
    Path("t.csv").write_text(text)
    assert invoke("encode", model, "--file", "t.csv").exit_code == 1
    assert invoke("encode", model, "--file", "t.csv", "--on-bad", "skip").stdout == done.stdout
    assert invoke("encode", model, "--stdin", "--on-bad", "stop", stdin=text).exit_code == 1
    out = ("--file", "t.csv", "--out", "c.safetensors", "--on-bad", "skip")
    assert "--on-bad skip needs codes on standard output" in invoke("encode", model, *out).stderr


@pytest.mark.parametrize(
    "options", [["--decimal", ","], ["--columns", "x"], ["--no-header"], ["--encoding", "utf-8"]]
)
def test_options_of_tables_need_a_table(workspace: Workspace, options: list[str]) -> None:
    workspace.write({"m": kmeans("points")})
    for command in (["encode", "m"], ["score", "m"], ["refit", "m"], ["select", "m"]):
        done = invoke(*command, *options)
        assert (done.exit_code, done.stdout) == (2, ""), command
        assert f"{options[0].replace('no-', '')} is an option for" in done.stderr


# score, refit and select ----------------------------------------------------------------------


def _learned(workspace: Workspace) -> pd.DataFrame:
    """Learn points from a file with names, and return the points."""
    frame = pd.DataFrame(blobs(300), columns=["x", "y"])
    frame.to_csv("p.csv", index=False)
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream)})
    assert invoke("ingest", "p.csv", "--stream", stream).exit_code == 0
    drain(workspace)
    return frame


def _figures(*arguments: str) -> dict[str, Any]:
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_score_refit_and_select_find_columns_by_name(workspace: Workspace) -> None:
    frame = _learned(workspace)
    wanted = _figures("score", "m", "--data", "p.csv")
    other = frame.assign(host="a")[["y", "host", "x"]]
    other.to_csv("o.csv.gz")  # with an index
    other.to_json("o.jsonl", orient="records", lines=True)
    other.to_parquet("o.parquet", index=True)
    frame[["y", "x"]].to_csv("semi.csv", sep=";", decimal=",", index=False)
    frame.rename(columns=str.upper)[["Y", "X"]].to_csv("upper.csv", index=False)
    np.save("o.npy", frame.to_numpy())
    for data in (
        ["o.csv.gz"],
        ["o.jsonl"],
        ["o.parquet"],
        ["o.npy"],
        ["semi.csv", "--decimal", ","],
        ["upper.csv", "--columns", "X,Y"],
    ):
        found = _figures("score", "m", "--data", *data)
        assert found["inertia"] == pytest.approx(wanted["inertia"]), data
    refits = [
        _figures("refit", "m", "--dry-run", "--restarts", "0", "--data", data)["loss"]
        for data in ("p.csv", "o.jsonl")
    ]
    assert refits[0] == pytest.approx(refits[1])
    selects = [
        _figures("select", "m", "--k", "2", "--no-png", "--data", data)["scores"][0]["inertia"]
        for data in ("p.csv", "o.parquet")
    ]
    assert selects[0] == pytest.approx(selects[1])


def test_score_refit_and_select_refuse_other_columns(workspace: Workspace) -> None:
    frame = _learned(workspace)
    frame.rename(columns={"x": "a", "y": "b"}).to_csv("o.csv", index=False)
    frame.assign(z=1.0).rename(columns=str.upper).to_csv("upper.csv", index=False)
    Path("bad.csv").write_text("y,x\n1,2\nbroken\n3,4\n")
    for command in (["score", "m"], ["refit", "m", "--dry-run"], ["select", "m", "--no-png"]):
        done = invoke(*command, "--data", "o.csv")
        assert done.exit_code == 1
        assert "o.csv has no column 'x', a feature of model 'm'; it has a, b" in done.stderr
        done = invoke(*command, "--data", "upper.csv")
        assert "differ only in case or spaces: give --columns 'X,Y'" in done.stderr
        done = invoke(*command, "--data", "p.csv", "--data", "bad.csv")
        assert "bad.csv line 3 has 1 cells; expected 2" in done.stderr
    done = invoke("score", "m", "--data", "p.csv", "--data", "bad.csv", "--on-bad", "skip")
    assert done.exit_code == 0
    assert done.stdout.startswith("points          302\n")
    assert done.stderr.count("warning: row skipped: bad.csv line 3") == 1


def test_a_model_without_state_takes_the_names_of_the_first_file(workspace: Workspace) -> None:
    frame = pd.DataFrame(blobs(60), columns=["x", "y"])
    frame.to_csv("a.csv", index=False)
    frame[["y", "x"]].to_csv("b.csv", index=False)
    frame.rename(columns={"x": "z"}).to_csv("c.csv", index=False)
    workspace.write({"m": kmeans(workspace.stream())})
    select = ("select", "m", "--k", "1", "--no-png")
    once = _figures(*select, "--data", "a.csv")["scores"][0]
    twice = _figures(*select, "--data", "a.csv", "--data", "b.csv")["scores"][0]
    assert twice["inertia_per_point"] == pytest.approx(once["inertia_per_point"])
    done = invoke(*select, "--data", "a.csv", "--data", "c.csv")
    assert "c.csv has no column 'x', a feature of the first file, a.csv" in done.stderr


# ingest ---------------------------------------------------------------------------------------


def _entries(workspace: Workspace) -> list[tuple[str, dict[str, str]]]:
    with workspace.client as client:
        found: Any = client.xrange(workspace.stream())
    return [
        (entry_id.decode(), {name.decode(): value.decode() for name, value in fields.items()})
        for entry_id, fields in found
    ]


@pytest.fixture
def ingest(workspace: Workspace) -> Any:
    workspace.write({})

    def ingest(*arguments: str, stdin: str | None = None) -> Result:
        return invoke("ingest", *arguments, "--stream", workspace.stream(), stdin=stdin)

    return ingest


def test_a_log_with_times_and_labels(workspace: Workspace, ingest: Any) -> None:
    text = (
        "zeit;host;user;last;notiz\n"
        "01.05.2026 12:00:00;web1;Jörg;1,5;a\n"
        "01.05.2026 12:00:00;web2;;2,5;b\n"
        "01.05.2026 12:00:01;web1;Zoë;3,5;c\n"
    )
    Path("log.csv.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    done = ingest(
        *("log.csv.gz", "--decimal", ",", "--encoding", "cp1252", "--exclude", "notiz"),
        *("--time-column", "zeit", "--time-format", "%d.%m.%Y %H:%M:%S"),
        *("--label-columns", "host,user"),
    )
    assert (done.exit_code, done.stderr) == (0, "")
    entries = _entries(workspace)
    first = int(entries[0][0].split("-")[0])
    assert [entry_id for entry_id, _ in entries] == [
        f"{first}-0",
        f"{first}-1",
        f"{first + 1000}-0",
    ]
    assert entries[0][1] == {"last": "1.5", "host": "web1", "user": "Jörg"}


def test_event_times_give_a_replay_its_ages(workspace: Workspace, ingest: Any) -> None:
    # Given points of two hours, an hour apart from the next ones, in reach of `--last`
    rows = [f"{1_700_000_000 + 60 * minute},{minute % 7},{minute % 5}" for minute in range(120)]
    Path("p.csv").write_text("\n".join(["t,x,y", *rows]))
    stream = workspace.stream()
    often: dict[str, Any] = {"init": {"points": 12}, "batch": {"size": 10}}
    forgetting = {"kind": "time", "half_life": "10m"}
    workspace.write({"m": kmeans(stream, forgetting=forgetting, **often)})
    assert ingest("p.csv", "--time-column", "t").exit_code == 0
    drain(workspace)
    assert _figures("score", "m", "--last", "30m")["points"] == 31
    # Then the model has forgotten the first hour
    assert workspace.newest("m").mass.sum() < 30


def test_bad_rows_are_skipped_stored_or_the_end(workspace: Workspace, ingest: Any) -> None:
    Path("p.csv").write_text("x,y\n1,2\n3,abc\n5,6\n")
    done = ingest("p.csv")
    assert done.exit_code == 1
    assert "p.csv line 3, column 'y': 'abc' is not a number" in done.stderr
    done = ingest("p.csv", "--on-bad", "skip")
    assert done.exit_code == 0
    assert done.stdout.endswith("; 1 bad row skipped\n")
    assert len(_entries(workspace)) == 2
    done = ingest("p.csv", "--on-bad", "dead", "--json")
    assert json.loads(done.stdout)["bad"] == 1
    key = f"{{{workspace.stream()}}}:ingest:dead"
    with workspace.client as client:
        ((_, row),) = client.xrange(key)
    assert (row[b"file"], row[b"line"], row[b"data"]) == (b"p.csv", b"3", b"3,abc")
    # and `dead` says so, and shows them
    workspace.write({"m": kmeans(workspace.stream())})
    assert f"bad rows of files stored by `ingest`: 1 for stream '{workspace.stream()}'; " in (
        shown(workspace, "dead", "m").stderr
    )
    lines = shown(workspace, "dead", "m", "--ingest").stdout.splitlines()
    assert re.split("  +", lines[-1])[:2] == ["p.csv", "3"]
    assert "column 'y': 'abc' is not a number" in lines[-1]
    found = json.loads(shown(workspace, "dead", "m", "--ingest", "--json").stdout)
    assert [each["data"] for each in found["streams"][0]["rows"]] == ["3,abc"]
    none = ("--ingest", "--json", "--reason", "nothing")
    assert json.loads(shown(workspace, "dead", "m", *none).stdout)["streams"][0]["rows"] == []
    # and `dead purge` removes them
    purge = ("dead", "purge", "m", "--ingest", "--yes")
    assert json.loads(shown(workspace, *purge, *none[1:]).stdout)["removed"] == 0
    assert shown(workspace, *purge, "--reason", "abc").stdout == "m: removed 1 bad row of files\n"
    assert ingest("p.csv", "--on-bad", "dead", "--restart").exit_code == 0
    assert shown(workspace, *purge).stdout == "m: removed 1 bad row of files\n"
    assert shown(workspace, *purge).stdout == "m: removed 0 bad rows of files\n"


def test_standard_input_continues_after_a_bad_line(workspace: Workspace, ingest: Any) -> None:
    done = ingest("-", stdin="x,y\n1,2\nbroken\n3,4\n")
    assert done.exit_code == 0
    assert "warning: row skipped: stdin line 3 has 1 cells; expected 2" in done.stderr
    assert len(_entries(workspace)) == 2
    assert ingest("-", "--on-bad", "stop", stdin="x,y\n1,2\nbroken\n").exit_code == 1


def test_an_interrupted_run_is_continued(workspace: Workspace, ingest: Any) -> None:
    rows = [f"{row}\n" for row in range(9000)]
    Path("p.csv").write_text("x\n" + "".join(rows) + "bad\n")
    assert ingest("p.csv").exit_code == 1
    Path("p.csv").write_text("x\n" + "".join(rows))
    done = ingest("p.csv", "--json")
    assert "p.csv: 8,192 points are in stream" in done.stderr
    assert "this run sends the rest (--restart sends all)" in done.stderr
    report = json.loads(done.stdout)
    assert (report["points"], report["resumed"]) == (808, 8192)
    assert len(_entries(workspace)) == 9000


def test_files_with_the_same_columns_in_another_order(workspace: Workspace, ingest: Any) -> None:
    Path("a.csv").write_text("x,y\n1,2\n")
    Path("b.csv").write_text("y,x\n4,3\n")
    Path("c.csv").write_text("y,x,z\n6,5,0\n")
    assert ingest("a.csv", "b.csv", "--format", "json").exit_code == 0
    assert [fields["json"] for _, fields in _entries(workspace)] == ["[1.0,2.0]", "[3.0,4.0]"]
    done = ingest("a.csv", "c.csv")
    assert "c.csv has a column 'z', but the first file, a.csv, doesn't" in done.stderr


def test_entries_without_names_have_the_order_of_the_config(
    workspace: Workspace, ingest: Any
) -> None:
    workspace.write({"m": kmeans(workspace.stream(), points={"features": ["x", "y"]})})
    Path("p.csv").write_text("y,x\n2,1\n")
    Path("q.csv").write_text("y,z\n2,1\n")
    assert ingest("p.csv", "--format", "json").exit_code == 0
    assert _entries(workspace)[0][1] == {"json": "[1.0,2.0]"}
    assert "q.csv has no column 'x', a feature of model 'm'" in (
        ingest("q.csv", "--format", "float32").stderr
    )


def test_labels_need_the_names_of_the_features(workspace: Workspace, ingest: Any) -> None:
    Path("p.csv").write_text("host,x\na,1\n")
    workspace.write({"m": kmeans(workspace.stream())})
    done = ingest("p.csv", "--label-columns", "host")
    assert done.exit_code == 0
    assert "warning: model 'm' can't read entries with labels yet: name its features" in done.stderr


@pytest.mark.parametrize("name", ["empty.csv", "header.csv", "empty.jsonl"])
def test_an_empty_file_is_a_warning(ingest: Any, name: str) -> None:
    Path(name).write_text("x,y\n" if name == "header.csv" else "")
    done = ingest(name)
    assert (done.exit_code, done.stderr) == (0, f"warning: {name} has no rows\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--columns", "a,,b"],
        ["--delimiter", ";;"],
        ["--decimal", "-"],
        ["--on-bad", "ignore"],
        ["--encoding", "klingon"],
    ],
)
def test_wrong_usage(ingest: Any, arguments: list[str]) -> None:
    Path("p.csv").write_text("x\n1\n")
    assert ingest("p.csv", *arguments).exit_code == 2


def test_names_with_commas_are_quoted() -> None:
    assert Names().convert('a, "b, c" ,d', None, None) == ("a", "b, c", "d")
