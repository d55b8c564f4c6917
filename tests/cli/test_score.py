"""``streamclust score`` and ``streamclust select``: figures for people, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_refit import invoke
from tests.refit.desk import EAGER, drain, poor_site, save
from tests.worker.harness import Site, add_blocks, blobs, kmeans, mixture


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    return Site(tmp_path, valkey_url, namespace)


@pytest.mark.parametrize("kind", [kmeans, mixture])
def test_a_score_over_the_stream_and_over_a_file(site: Site, kind: object) -> None:
    X = blobs(300)
    with site.client as client:
        add_blocks(client, site.stream(), X)
    make = kmeans if kind is kmeans else mixture
    drain(site.write({"m": make(site.stream(), **EAGER)}))
    streamed = json.loads(invoke("score", "m", "--json").stdout)
    path = save(site.folder / "x.csv", X)
    filed = json.loads(invoke("score", "m", "--json", "--data", str(path)).stdout)
    assert (streamed.pop("source"), filed.pop("source")) == (
        f"stream {site.stream()} after 0-0, up to {site.position('m')[site.stream()]}",
        str(path),
    )
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


def test_a_selection_draws_its_picture(site: Site) -> None:
    # Given a model that no worker has begun with
    poor_site(site, blobs(300))
    done = invoke("select", "m", "--k", "1..5", "--restarts", "1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split()[:3] == ["K", "J/N", "LOG-LIK/N"]
    assert lines[3].endswith("silhouette")
    assert lines[-1] == "chart: m-select.png"
    assert max(map(len, lines)) <= 80
    assert (site.folder / "m-select.png").read_bytes().startswith(b"\x89PNG")
    # and JSON without a picture
    found = json.loads(invoke("select", "m", "--k", "2,3", "--no-png", "--json").stdout)
    assert [each["n_components"] for each in found["scores"]] == [2, 3]
    assert (found["choice"]["silhouette"], found["png"]) == (3, None)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["score", "nobody"], 2, "model 'nobody' isn't configured; configured models: m"),
        (["score", "m"], 1, "model 'm' has learned nothing yet"),
        (["select", "m", "--k", "20..2"], 2, "--k '20..2': expected a range such as 2..20"),
        (["select", "m", "--k", "400"], 1, "90 distinct points are too few for 400 components"),
        (["select", "m", "--from", "2100-01-01"], 1, "no points in stream"),
        (["select", "m", "--k", "2,3", "--png", "no/where.png"], 1, "can't write no/where.png"),
        (["score", "m", "--last", "x"], 1, "has learned nothing yet"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    site: Site, arguments: list[str], code: int, words: str
) -> None:
    poor_site(site, blobs(90))
    done = invoke(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.output.splitlines()[-1]


def test_a_model_that_is_warming_up_has_no_score(site: Site) -> None:
    feed = np.ones((30, 2))  # too few distinct points to begin
    with site.client as client:
        add_blocks(client, site.stream(), feed)
    drain(site.write({"m": kmeans(site.stream(), **EAGER)}))
    done = invoke("score", "m")
    assert done.exit_code == 1
    assert "still warming up" in done.output
