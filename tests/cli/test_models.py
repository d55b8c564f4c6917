"""``streamclust models``: the versions that are kept, for people and for programs."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from streamclust.cli.main import cli
from streamclust.formats.model import decode_model
from tests.support.many_models import fill
from tests.support.workspace import Workspace
from tests.support.workspace import run as run_in


@pytest.fixture(autouse=True)
def there(learned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(learned.folder)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", *arguments])


def told(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_list_has_a_row_a_version() -> None:
    header, *rows = told("list", "km").splitlines()
    assert header.split() == [
        *("VERSION", "PUBLISHED", "EVENT", "TIME", "POINTS", "REASON", "INERTIA"),
        *("MOVED", "WEIGHTS"),
    ]
    assert [row.split()[0] for row in rows[:5]] == ["1", "2", "3", "4", "5"]
    assert rows[5] == "inertia per point (mean squared distance; lower is better)"
    assert rows[6].startswith("version 5 was published 20")
    lines = [json.loads(line) for line in told("list", "gm", "--json").splitlines()]
    assert [line["version"] for line in lines] == [1, 2, 3, 4, 5]
    published = [datetime.fromisoformat(line["published"]).timestamp() for line in lines]
    assert published == sorted(published)
    assert published[-1] <= time.time() < published[0] + 3600
    assert all(line["event_time"].endswith("Z") for line in lines)


def test_show_one_version(learned: Workspace) -> None:
    version = json.loads(told("show", "km", "2", "--json"))
    model = learned.versions("km")[1]
    assert (version["version"], version["centroids"]) == (2, model.means.tolist())
    text = told("show", "km")
    assert "version           5" in text
    assert "SHARE" in text


def test_diff_is_the_drift_of_each_component(learned: Workspace) -> None:
    versions = learned.versions("km")
    found = json.loads(told("diff", "km", "2", "4", "--json"))
    wanted = np.linalg.norm(versions[3].means - versions[1].means, axis=1)
    np.testing.assert_allclose(found["moved"], wanted, rtol=1e-12)
    assert found["versions"] == [2, 4]
    assert found["points"] == 120
    assert json.loads(told("diff", "km", "2", "--json"))["versions"] == [2, 5]
    assert json.loads(told("diff", "km", "--json"))["versions"] == [4, 5]
    head, columns, *rows, meaning, legend = told("diff", "gm", "1").splitlines()
    assert head.startswith("gm 1 -> 5: 240 points, log-likelihood none -> -")
    assert meaning == "log-likelihood per point (in nats; higher is better)"
    assert columns.split() == [
        *("#", "MOVED", "SHARE", "1", "SHARE", "5", "CHANGE"),
        *("x0", "x1"),
    ]
    # the components that moved most come first, each with its change
    first, last = learned.versions("gm")[0], learned.newest("gm")
    moved = last.displacement_from(first)
    order = np.argsort(-moved, kind="stable")
    assert [int(row.split()[0]) for row in rows] == order.tolist()
    cells = [row.replace(" pp", "").replace("%", "").split() for row in rows]
    shares = np.stack([model.mass / model.mass.sum() for model in (first, last)])[:, order]
    wanted = [moved[order], *100 * shares, 100 * (shares[1] - shares[0])]
    wanted += list((last.means - first.means)[order].T)
    np.testing.assert_allclose(np.array(cells, float).T[1:], wanted, rtol=0.05, atol=0.006)
    assert legend == "columns of features: version 5 minus version 1"


def test_export(learned: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert told("export", "km", str(out), "3") == f"wrote version 3 of km to {out}\n"
    found = decode_model(out.read_bytes(), "file")
    assert found.version == 3
    np.testing.assert_array_equal(found.means, learned.versions("km")[2].means)
    told("export", "gm", str(tmp_path / "m.npz"))
    with np.load(tmp_path / "m.npz") as file:
        np.testing.assert_array_equal(file["weights"], learned.newest("gm").params.weights)
    # --to names the format of a file whose name has another suffix.
    for name, to in (("km", "faiss"), ("gm", "onnx"), ("km", "onnx")):
        out = tmp_path / f"{name}-{to}.bin"
        assert told("export", name, str(out), "--to", to).startswith("wrote version 5 of")
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "gm-onnx.bin"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "no"], "'no' has not been published"),
        (["show", "km", "9"], "version 9 of 'km' isn't stored; the oldest stored version is 1"),
        (["show", "km", str(2**64)], f"version {2**64} of 'km' isn't stored"),
        (["diff", "km", "9"], "version 9"),
        (["export", "km", "m.pkl"], "expected a name that ends in .safetensors"),
        (["export", "km", "nowhere/m.npz"], "No such file or directory"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("width", [24, 40, 80])
@pytest.mark.parametrize(
    "command", [["list", "gm"], ["show", "gm"], ["diff", "gm", "1"], ["diff", "km", "2", "4"]]
)
def test_every_screen_fits(command: list[str], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, told(*command).splitlines())) <= width


def test_diff_shows_the_components_that_moved_most(learned: Workspace) -> None:
    moved = learned.versions("km")[4].displacement_from(learned.versions("km")[1])
    lines = told("diff", "km", "2", "--top", "1").splitlines()
    assert lines[2].split()[0] == str(moved.argmax())
    assert lines[3] == "+2 components that moved less; `--top 0` shows all"
    assert len(told("diff", "km", "2", "--top", "0").splitlines()) == 7
    found = json.loads(told("diff", "km", "2", "--json"))
    np.testing.assert_allclose(np.linalg.norm(found["change"], axis=1), found["moved"])
    np.testing.assert_allclose(np.sum(found["share"], axis=1), 1.0)


def test_many_models_are_listed_with_their_newest_versions(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace).write({})
    names = [f"clicks-{number:03}" for number in range(150)]
    with workspace.client as client:
        fill(client, namespace, [*names, "other"])
    lines = run_in(tmp_path, "models", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["MODEL", *names, "other"]
    assert lines[1].split()[:4] == ["clicks-000", "kmeans", "2x2", "1"]
    text = run_in(tmp_path, "models", "list", "--model", "clicks-01*", "--json").stdout
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["model"], row["inertia"]) for row in rows] == [
        (name, 0.25) for name in names[10:20]
    ]
