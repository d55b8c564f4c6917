"""Workers whose number of clusters adapts: versions, numbers that stay, codes, restarts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust.errors import FormatError
from streamclust.formats.codes import decode_fields
from streamclust.formats.model import decode_model, encode_model
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import Points, add_blocks
from tests.support.workers import drain
from tests.support.workspace import Workspace

PLACES = np.array([-30.0, 0.0, 30.0, 60.0])
SETTINGS: dict[str, Any] = {
    "K": "auto",
    "n_clusters_range": [2, 9],
    "forgetting": {"kind": "points", "half_life": 600},
    "batch": {"size": 100},
}


def points(which: list[int], n: int, seed: int) -> Points:
    """Points of some of the clusters, in turn."""
    rng = np.random.default_rng(seed)
    centres = PLACES[which][np.arange(n) % len(which)]
    return np.asarray(centres[:, None] + rng.normal(size=(n, 2)))


def feed(workspace: Workspace, which: list[int], n: int, seed: int) -> None:
    with workspace.client as client:
        add_blocks(client, workspace.stream(), points(which, n, seed), block=50)


def places(workspace: Workspace) -> dict[int, int]:
    """Each component's number -> the cluster where it is."""
    model = workspace.newest("m")
    near = np.abs(model.means[:, :1] - PLACES).argmin(axis=1)
    return dict(zip(model.numbers.tolist(), near.tolist(), strict=True))


def test_clusters_come_and_go_and_keep_their_numbers(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), encode=True, **SETTINGS)})
    feed(workspace, [0, 1, 2], 600, seed=1)
    drain(workspace)
    at_first = places(workspace)
    assert sorted(at_first) == sorted(at_first.values()) == [0, 1, 2]
    feed(workspace, [0, 1, 2, 3], 1000, seed=2)
    drain(workspace)
    assert places(workspace) == {**at_first, 3: 3}
    gone = next(number for number, place in at_first.items() if place == 1)
    feed(workspace, [0, 2, 3], 1500, seed=3)
    drain(workspace)
    left = {number: place for number, place in at_first.items() if number != gone}
    assert places(workspace) == {**left, 3: 3}
    versions = workspace.versions("m")
    assert [m.reason for m in versions].count("resize") == 2
    first, last = versions[0].version, versions[-1].version
    told = shown(workspace, "models", "diff", "m", str(first), str(last)).stdout.splitlines()
    assert [line.split()[0] for line in told if "died" in line] == [str(gone)]
    assert [line.split()[0] for line in told if "born" in line] == ["3"]
    lines = shown(workspace, "models", "show", "m").stdout.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == [str(n) for n in sorted([*left, 3])]
    with workspace.client as client:
        entry_id, fields = client.xrevrange(workspace.keys("m").codes(), count=1)[0]
    coded = decode_fields(entry_id.decode(), fields, "codes")
    model = next(each for each in versions if each.version == coded.version)
    assert coded.code.tolist() == model.predict(points([0, 2, 3], 1500, seed=3)[-50:]).tolist()
    assert set(coded.code.tolist()) <= {*left, 3}


def test_a_restart_continues_bit_for_bit(workspace: Workspace) -> None:
    whole = Workspace(workspace.folder, workspace.url, f"{workspace.namespace}-whole")
    stream = workspace.stream()
    for which, seed in (([0, 1, 2], 1), ([0, 2, 3], 2), ([2, 3], 3)):
        feed(workspace, which, 500, seed)
        workspace.write({"m": kmeans(stream, **SETTINGS)})
        drain(workspace)
    whole.write({"m": kmeans(stream, **SETTINGS)})
    drain(whole)
    assert workspace.state("m")[1] == whole.state("m")[1]
    assert workspace.newest("m").ids.tolist() == whole.newest("m").ids.tolist()


def test_fixed_and_adapting_states_are_not_mixed_up_but_bounds_may_change(
    workspace: Workspace,
) -> None:
    feed(workspace, [0, 1, 2], 300, seed=1)
    workspace.write({"m": kmeans(workspace.stream(), **SETTINGS)})
    drain(workspace)
    workspace.write({"m": kmeans(workspace.stream(), **{**SETTINGS, "n_clusters_range": [1, 5]})})
    drain(workspace)
    fixed = {name: value for name, value in SETTINGS.items() if name != "n_clusters_range"}
    workspace.write({"m": kmeans(workspace.stream(), **{**fixed, "K": 3})})
    with pytest.raises(FormatError, match=r"was learned with one that adapts \(auto\), the config"):
        drain(workspace)


def test_refits_keep_k_and_an_older_version_brings_its_own_back(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), **SETTINGS)})
    feed(workspace, [0, 1, 2], 600, seed=1)
    drain(workspace)
    first = workspace.newest("m")
    feed(workspace, [0, 1, 2, 3], 1000, seed=2)
    drain(workspace)
    assert len(workspace.newest("m").ids) == 4
    done = shown(workspace, "refit", "m", "--force")
    assert done.exit_code == 0, done.stderr
    refitted = workspace.newest("m")
    assert (refitted.reason, refitted.ids.tolist()) == ("refit", [0, 1, 2, 3])
    assert np.nanmax(refitted.displacement_from(first)) < 3.0
    done = shown(workspace, "models", "rollback", "m", str(first.version))
    assert done.exit_code == 0, done.stderr
    back = workspace.newest("m")
    assert (back.reason, back.ids.tolist()) == ("rollback", [0, 1, 2])
    assert back.displacement_from(first).max() == 0.0


def test_a_model_keeps_its_numbers_as_bytes(workspace: Workspace) -> None:
    feed(workspace, [0, 1, 2], 300, seed=1)
    workspace.write({"m": kmeans(workspace.stream(), **SETTINGS)})
    drain(workspace)
    model = workspace.newest("m")
    again = decode_model(encode_model(model), "here")
    assert again.ids.tolist() == model.ids.tolist() == [0, 1, 2]
    assert again.family == model.family
    assert '"ids": [0, 1, 2]' in model.to_json()
