"""``streamclust models``: the versions that are kept, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from streamclust.cli.main import cli
from streamclust.formats.model import decode_model
from tests.worker.harness import Site


@pytest.fixture(autouse=True)
def there(learned: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(learned.folder)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", *arguments])


def told(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_list_has_a_row_a_version() -> None:
    header, *rows = told("list", "km").splitlines()
    assert header.split()[:2] == ["VERSION", "TIME"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4", "5"]
    lines = [json.loads(line) for line in told("list", "gm", "--json").splitlines()]
    assert [line["version"] for line in lines] == [1, 2, 3, 4, 5]


def test_show_one_version(learned: Site) -> None:
    version = json.loads(told("show", "km", "2", "--json"))
    model = learned.versions("km")[1]
    assert (version["version"], version["centroids"]) == (2, model.means.tolist())
    text = told("show", "km")
    assert "version           5" in text
    assert "SHARE" in text


def test_diff_is_the_drift_of_each_component(learned: Site) -> None:
    versions = learned.versions("km")
    found = json.loads(told("diff", "km", "2", "4", "--json"))
    wanted = np.linalg.norm(versions[3].means - versions[1].means, axis=1)
    np.testing.assert_allclose(found["moved"], wanted, rtol=1e-12)
    assert found["versions"] == [2, 4]
    assert found["points"] == 120
    assert json.loads(told("diff", "km", "2", "--json"))["versions"] == [2, 5]
    head, columns, *rows = told("diff", "gm", "1").splitlines()
    assert head.startswith("gm 1 -> 5: 240 points, log_likelihood")
    assert columns.split()[:2] == ["#", "MOVED"]
    assert len(rows) == 3


def test_export(learned: Site, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert told("export", "km", str(out), "3") == f"wrote version 3 of km to {out}\n"
    found = decode_model(out.read_bytes(), "file")
    assert found.version == 3
    np.testing.assert_array_equal(found.means, learned.versions("km")[2].means)
    told("export", "gm", str(tmp_path / "m.npz"))
    with np.load(tmp_path / "m.npz") as file:
        np.testing.assert_array_equal(file["weights"], learned.newest("gm").params.weights)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "no"], "'no' has not been published"),
        (["show", "km", "9"], "version 9 of 'km' isn't kept; the oldest kept one is 1"),
        (["show", "km", str(2**64)], f"version {2**64} of 'km' isn't kept"),
        (["diff", "km", "9"], "version 9"),
        (["export", "km", "m.pkl"], "expected a name in .safetensors"),
        (["export", "km", "nowhere/m.npz"], "No such file or directory"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
