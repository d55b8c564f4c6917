"""``streamclust models map``: where points go from one version to another, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.commands import invoke
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.refit_helpers import EAGER, POOR, save
from tests.support.workers import drain
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(
    tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path, valkey_url, namespace)


def test_a_map_of_a_file_is_that_of_both_predictions(workspace: Workspace) -> None:
    X = blobs(600)
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X)
    drain(workspace.write({"m": kmeans(workspace.stream(), init=POOR, **EAGER)}))
    first, last = workspace.versions("m")[0], workspace.newest("m")
    old, new = first.predict(X), last.predict(X)
    assert 0.0 < (old != new).mean() < 1.0
    path = save(workspace.folder / "x.csv", X)
    done = invoke("models", "map", "m", "1", str(last.version), "--json", "--data", str(path))
    found = json.loads(done.stdout)
    assert found["moved"] == pytest.approx((old != new).mean())
    pairs = {(each["from"], each["to"]): each["share"] for each in found["pairs"]}
    for k in range(3):
        for j in range(3):
            share = float(((old == k) & (new == j)).mean())
            assert pairs.get((k, j), 0.0) == pytest.approx(share)
    shown = invoke("models", "map", "m", "1", str(last.version), "--from-coreset").output
    assert f"m 1 -> {last.version}: " in shown
    assert "of the points change components" in shown
    assert "codebook" in invoke("models", "show", "m").output
    health = json.loads(invoke("models", "show", "m", "--json").stdout)["codebook"]
    assert health["n_codes"] == 3
    assert 1.0 < health["perplexity"] <= 3.0
    missing = invoke("models", "map", "m", "1", "999")
    assert missing.exit_code == 1
    assert "version 999" in missing.output


def test_there_is_no_map_across_other_sizes_and_metrics(workspace: Workspace) -> None:
    names: dict[str, Any] = {
        "m": {"K": 3},
        "other": {"K": 2},
        "cosine": {"K": 3, "metric": "cosine"},
    }
    X = blobs(300)
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X)
    models = {name: kmeans(workspace.stream(), **more) for name, more in names.items()}
    workspace.write(models)
    for name in models:
        drain(workspace, name)
    one, fewer, cosine = (workspace.newest(name) for name in names)
    one, fewer, cosine = (replace(each, model_id=0) for each in (one, fewer, cosine))
    with pytest.raises(ValueError, match="have 2 and 3 components; there is no map"):
        one.map_from(fewer, X)
    with pytest.raises(ValueError, match="are of different models; there is no map"):
        one.map_from(cosine, X)
    assert np.isclose(one.map_from(one, X).moved, 0.0)
