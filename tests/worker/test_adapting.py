"""Workers whose number of clusters adapts: versions, numbers that stay, codes, restarts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust.errors import FormatError
from streamclust.formats.codes import decode_fields
from streamclust.formats.model import decode_model, encode_model
from tests.refit.desk import drain
from tests.worker.harness import Points, Site, add_blocks, kmeans, run

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


def feed(site: Site, which: list[int], n: int, seed: int) -> None:
    with site.client as client:
        add_blocks(client, site.stream(), points(which, n, seed), block=50)


def places(site: Site) -> dict[int, int]:
    """Each component's number -> the cluster where it is."""
    model = site.newest("m")
    near = np.abs(model.means[:, :1] - PLACES).argmin(axis=1)
    return dict(zip(model.numbers.tolist(), near.tolist(), strict=True))


def test_clusters_come_and_go_and_keep_their_numbers(site: Site) -> None:
    site.write({"m": kmeans(site.stream(), encode=True, **SETTINGS)})
    feed(site, [0, 1, 2], 600, seed=1)
    drain(site)
    at_first = places(site)
    assert sorted(at_first) == sorted(at_first.values()) == [0, 1, 2]
    feed(site, [0, 1, 2, 3], 1000, seed=2)
    drain(site)
    assert places(site) == {**at_first, 3: 3}
    gone = next(number for number, place in at_first.items() if place == 1)
    feed(site, [0, 2, 3], 1500, seed=3)
    drain(site)
    left = {number: place for number, place in at_first.items() if number != gone}
    assert places(site) == {**left, 3: 3}
    versions = site.versions("m")
    assert [m.reason for m in versions].count("resize") == 2
    first, last = versions[0].version, versions[-1].version
    told = run(site.folder, "models", "diff", "m", str(first), str(last)).stdout.splitlines()
    assert [line.split()[0] for line in told if "died" in line] == [str(gone)]
    assert [line.split()[0] for line in told if "born" in line] == ["3"]
    shown = run(site.folder, "models", "show", "m").stdout.splitlines()
    assert [line.split()[0] for line in shown[-3:]] == [str(n) for n in sorted([*left, 3])]
    with site.client as client:
        entry_id, fields = client.xrevrange(site.keys("m").codes(), count=1)[0]
    coded = decode_fields(entry_id.decode(), fields, "codes")
    model = next(each for each in versions if each.version == coded.version)
    assert coded.code.tolist() == model.predict(points([0, 2, 3], 1500, seed=3)[-50:]).tolist()
    assert set(coded.code.tolist()) <= {*left, 3}


def test_a_restart_continues_bit_for_bit(site: Site) -> None:
    whole = Site(site.folder, site.url, f"{site.namespace}-whole")
    stream = site.stream()
    for which, seed in (([0, 1, 2], 1), ([0, 2, 3], 2), ([2, 3], 3)):
        feed(site, which, 500, seed)
        site.write({"m": kmeans(stream, **SETTINGS)})
        drain(site)
    whole.write({"m": kmeans(stream, **SETTINGS)})
    drain(whole)
    assert site.state("m")[1] == whole.state("m")[1]
    assert site.newest("m").ids.tolist() == whole.newest("m").ids.tolist()


def test_fixed_and_adapting_states_are_not_mixed_up_but_bounds_may_change(site: Site) -> None:
    feed(site, [0, 1, 2], 300, seed=1)
    site.write({"m": kmeans(site.stream(), **SETTINGS)})
    drain(site)
    site.write({"m": kmeans(site.stream(), **{**SETTINGS, "n_clusters_range": [1, 5]})})
    drain(site)
    fixed = {name: value for name, value in SETTINGS.items() if name != "n_clusters_range"}
    site.write({"m": kmeans(site.stream(), **{**fixed, "K": 3})})
    with pytest.raises(FormatError, match=r"was learned with one that adapts \(auto\), the config"):
        drain(site)


def test_refits_keep_k_and_an_older_version_brings_its_own_back(site: Site) -> None:
    site.write({"m": kmeans(site.stream(), **SETTINGS)})
    feed(site, [0, 1, 2], 600, seed=1)
    drain(site)
    first = site.newest("m")
    feed(site, [0, 1, 2, 3], 1000, seed=2)
    drain(site)
    assert len(site.newest("m").ids) == 4
    done = run(site.folder, "refit", "m", "--force")
    assert done.returncode == 0, done.stderr
    refitted = site.newest("m")
    assert (refitted.reason, refitted.ids.tolist()) == ("refit", [0, 1, 2, 3])
    assert np.nanmax(refitted.displacement_from(first)) < 3.0
    done = run(site.folder, "models", "rollback", "m", str(first.version))
    assert done.returncode == 0, done.stderr
    back = site.newest("m")
    assert (back.reason, back.ids.tolist()) == ("rollback", [0, 1, 2])
    assert back.displacement_from(first).max() == 0.0


def test_a_model_keeps_its_numbers_as_bytes(site: Site) -> None:
    feed(site, [0, 1, 2], 300, seed=1)
    site.write({"m": kmeans(site.stream(), **SETTINGS)})
    drain(site)
    model = site.newest("m")
    again = decode_model(encode_model(model), "here")
    assert again.ids.tolist() == model.ids.tolist() == [0, 1, 2]
    assert again.family == model.family
    assert '"ids": [0, 1, 2]' in model.to_json()
