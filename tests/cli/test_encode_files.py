"""``streamclust encode`` and ``decode`` on files: what a user sees."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from streamclust.cli.main import cli
from streamclust.formats.model import Model, encode_model
from streamclust.models import GaussianMixture
from streamclust.store.model.commit import Commit, commit
from tests.support.commits import take
from tests.support.encoder_fixture import CENTROIDS, model_of
from tests.support.forked import PipedCommand
from tests.support.model_settings import kmeans
from tests.support.points import blobs
from tests.support.waiting import LIMIT
from tests.support.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, points, and a picture."""
    monkeypatch.chdir(tmp_path)
    model_of(4, features=("x", "y")).save("m.safetensors")
    np.save("points.npy", blobs(100))
    return tmp_path


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), input=stdin)


def test_there_and_back(folder: Path) -> None:
    done = run("encode", "m.safetensors", "--file", "points.npy", "--out", "c.safetensors")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("100 points to c.safetensors: 2 bits per point, ")
    done = run("decode", "c.safetensors", "--out", "back.npy", "--json")
    assert json.loads(done.stdout)["bits_per_point"] == 2
    nearest = np.linalg.norm(blobs(100)[:, None] - CENTROIDS, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(np.load("back.npy"), CENTROIDS[nearest])
    assert run("decode", "c.safetensors", "--out", "back.csv").exit_code == 0
    assert (folder / "back.csv").read_text().startswith("x,y\n")


def test_a_stored_model_is_read_without_a_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "models:\n  m: {kind: kmeans, n_clusters: 2, streams: [points], init: {points: 4}}\n"
    )
    done = run("encode", "m", "--stdin", stdin="x,y\n0,8\n")
    assert (done.exit_code, sorted(path.name for path in tmp_path.iterdir())) == (
        3,
        ["config.yaml"],
    )
    (tmp_path / "p.csv").write_text("x,y\n0,8\n0,9\n8,0\n9,0\n")
    assert run("ingest", "p.csv", "--stream", "points").exit_code == 0
    assert run("worker", "--until-idle").exit_code == 0
    done = run("encode", "m", "--stdin", stdin="y,x\n8.5,0\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(",0.0\n")
    for command in (["score", "m"], ["refit", "m", "--dry-run"], ["select", "m", "--k", "2"]):
        done = run(*command)
        assert done.exit_code == 0, done.output


def test_standard_input_gives_lines(folder: Path) -> None:
    done = run("encode", "m.safetensors", "--stdin", stdin="x,y\n9,10\n0,0\n")
    assert done.stdout == "code,distance\n2,1.0\n1,0.0\n"


def test_ctrl_c_ends_the_wait_for_standard_input(folder: Path) -> None:
    command = ["encode", "m.safetensors", "--stdin"]
    pipe = subprocess.PIPE
    with PipedCommand(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("x,y\n9,10\n")
        process.stdin.flush()
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130
        assert (lines, process.stderr.read()) == (["code,distance\n", "2,1.0\n"], "")


def test_a_picture_there_and_back(folder: Path) -> None:
    from streamclust.encoder.pictures import read_picture
    from tests.support.pictures import write_picture

    rng = np.random.default_rng(0)
    write_picture("in.png", rng.random((20 * 10, 3)) * 255, (20, 10, 3), 255.0)
    model_of(1, rng.random((8, 3)) * 255).save("colours.safetensors")
    files = ("--image", "in.png", "--out", "c.safetensors")
    done = run("encode", "colours.safetensors", *files, "--json")
    report = json.loads(done.stdout)
    assert (report["points"], report["bits_per_point"]) == (200, 3)
    assert 5 < report["psnr"] < 30
    assert "PSNR" in run("encode", "colours.safetensors", *files).stdout
    assert run("decode", "c.safetensors", "--out", "out.png").exit_code == 0
    assert read_picture("out.png", 3).shape == (20, 10, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--stdin", "--file", "points.npy"], 2, "--file and --stdin can't be combined"),
        (["--out", "c"], 2, "--out needs --file"),
        (["--image", "points.npy"], 2, "--image needs --out"),
        (["--file", "nowhere"], 2, "does not exist"),
        (["--stdin", "--version", "9"], 1, "--version 9: m.safetensors holds version 4"),
        (["--image", "points.npy", "--out", "c"], 1, "a picture has 1 (grey) or 3"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, arguments: list[str], code: int, told: str) -> None:
    done = run("encode", "m.safetensors", *arguments)
    assert done.exit_code == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_decode_says_what_is_wrong(folder: Path) -> None:
    done = run("decode", "m.safetensors", "--out", "x.npy")
    assert done.exit_code == 1
    assert "m.safetensors" in done.stderr
    run("encode", "m.safetensors", "--file", "points.npy", "--out", "c.safetensors")
    done = run("decode", "c.safetensors", "--out", "x.png")
    assert done.exit_code == 2
    assert "holds no picture" in done.stderr


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, valkey_url, namespace)


@pytest.mark.parametrize("source", [("--stdin",), ("--file", "points.npy")])
def test_settings_that_do_not_fit_the_model_are_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, source: tuple[str, ...]
) -> None:
    monkeypatch.chdir(workspace.folder)
    np.save("points.npy", blobs(10))
    model, keys = model_of(1, features=("x", "y")), workspace.keys("m")
    with workspace.client as client:
        commit(client, keys, Commit(take(client, keys), b"s", model, encode_model(model)))
    workspace.write({"m": kmeans("points", points={"features": ["y", "x"]})})
    done = run("encode", "m", *source, stdin="y,x\n9,10\n")
    assert done.exit_code == 1
    assert "was learned with points.features ['x', 'y'], the config says ['y', 'x']" in done.output
    # but the format of a stream is nothing to a file
    workspace.write({"m": kmeans("points", points={"features": ["x", "y"], "format": "json"})})
    assert run("encode", "m", *source, stdin="x,y\n9,10\n").exit_code == 0


# ---- missing values

GAPS = "x,y\n1,\n,9.5\n4,5\n"


@pytest.fixture
def mixture(folder: Path) -> Model:
    """A mixture of two Gaussians in m2.safetensors, and points with missing values."""
    family = GaussianMixture(2, missing="learn")
    params = family.from_arrays(
        {
            "weights": np.array([0.5, 0.5]),
            "means": np.array([[0.0, 0.0], [10.0, 10.0]]),
            "covariances": np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 4.0]]]),
        }
    )
    model = replace(model_of(2, features=("x", "y")), family=family, params=params, mass=np.ones(2))
    model.save("m2.safetensors")
    (folder / "gaps.csv").write_text(GAPS)
    return model


def test_missing_values_are_replaced_by_conditional_means(mixture: Model, folder: Path) -> None:
    done = run("decode", "gaps.csv", "--impute", "m2.safetensors", "--out", "full.csv")
    assert (done.exit_code, done.stdout) == (
        0,
        "3 points to full.csv, 2 of 6 values imputed by version 2 of 'm'\n",
    )
    # The first point belongs to the first Gaussian, whose conditional mean is 0.5 x.
    rows = np.loadtxt(folder / "full.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(rows, [[1.0, 0.5], [10.0, 9.5], [4.0, 5.0]], atol=1e-5)
    assert (folder / "full.csv").read_text().splitlines()[3] == "4.0,5.0"
    words = ("--impute", "m2.safetensors", "--out", "full.npy", "--variance", "--json")
    report = json.loads(run("decode", "gaps.csv", *words).stdout)
    assert (report["points"], report["values"], report["imputed"]) == (3, 6, 2)
    both = np.load(folder / "full.npy")
    np.testing.assert_allclose(both[:, :2], rows, rtol=1e-12)
    np.testing.assert_allclose(both[:, 2:].ravel(), [0.0, 0.75, 1.0, 0.0, 0.0, 0.0], atol=1e-4)
    X = np.array([[1.0, np.nan], [np.nan, 9.5], [4.0, 5.0]])
    np.testing.assert_array_equal(both[:, :2], np.asarray(mixture.impute(X)))
    run("decode", "gaps.csv", *words[:3], "v.csv", "--variance")
    assert (folder / "v.csv").read_text().startswith("x,y,x_variance,y_variance\n")


def test_points_with_missing_values_have_codes(mixture: Model) -> None:
    done = run("encode", "m2.safetensors", "--file", "gaps.csv")
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["code", "0", "1", "0"]
    assert "nan" not in done.stdout
    # A model that doesn't learn missing values refuses them.
    mixture.accepting("reject").save("other.safetensors")
    done = run("encode", "other.safetensors", "--file", "gaps.csv")
    assert done.exit_code == 1
    assert "'' is not a number; points.missing: learn accepts missing values" in done.stderr


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("x,y\n1,\n,\n", (), "gaps.csv line 3: all values are missing"),
        ("x,y\n1,inf\n", (), "gaps.csv line 2, column 'y': inf is not finite"),
        ("x\n1\n", (), "gaps.csv has no column 'y'"),
        ("x,y\n", (), "there are no points to impute"),
        (GAPS, ("--version", "7"), "--version 7: m2.safetensors holds version 2"),
    ],
)
def test_what_can_not_be_imputed(
    mixture: Model, folder: Path, text: str, words: tuple[str, ...], message: str
) -> None:
    (folder / "gaps.csv").write_text(text)
    done = run("decode", "gaps.csv", "--impute", "m2.safetensors", "--out", "o.csv", *words)
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (folder / "o.csv").exists()


def test_options_of_imputation_that_do_not_fit(mixture: Model, folder: Path) -> None:
    impute = ("decode", "gaps.csv", "--impute")
    done = run(*impute, "m.safetensors", "--out", "o.csv", "--variance")
    assert (done.exit_code, "kmeans, which has no variances" in done.stderr) == (1, True)
    assert run(*impute, "m.safetensors", "--out", "o.csv").exit_code == 0
    filled = np.loadtxt(folder / "o.csv", delimiter=",", skiprows=1)
    assert filled[0].tolist() == [1.0, CENTROIDS[np.abs(CENTROIDS[:, 0] - 1.0).argmin(), 1]]
    done = run(*impute, "m2.safetensors", "--out", "o.png")
    assert (done.exit_code, "--impute writes .npy or .csv" in done.stderr) == (2, True)
    for words in (("--variance",), ("--delimiter", ";"), ("--version", "1")):
        done = run("decode", "gaps.csv", "--out", "o.csv", *words)
        assert (done.exit_code, f"{words[0]} is an option for --impute" in done.stderr) == (2, True)
    done = run(*impute, "m2.safetensors", "--out", "o.npy", "--columns", "x")
    assert (done.exit_code, "choose 2 columns" in done.stderr) == (1, True)
