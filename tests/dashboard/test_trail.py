"""How components moved over versions, and how two versions differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamclust.dashboard.diff import difference
from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.plane import feature_plane
from streamclust.dashboard.trail import Trail
from streamclust.errors import UnknownModelError
from streamclust.formats.model import Model
from streamclust.models import KMeans, KMeansParams
from streamclust.store.model.version_heads import VersionHead


def version(number: int, ids: list[int], model_id: int = 8) -> Model:
    """A version whose component i is at (10 i, number)."""
    K = len(ids)
    centroids = np.array([[10.0 * i, number] for i in ids])
    family = KMeans(9, min_clusters=1).with_components(K)
    found = Model(
        "m",
        number,
        "step",
        family,
        KMeansParams(centroids),
        np.arange(1.0, K + 1),
        {},
        0,
        0.5,
        None,
    )
    return replace(found, ids=np.array(ids), model_id=model_id)


def filled(versions: list[Model], missing: int = 0) -> Trail:
    def read(number: int) -> Model:
        if number == missing:
            raise UnknownModelError("trimmed")
        return versions[number - 1]

    trail = Trail(versions[-1])
    trail.fill([VersionHead(each.version) for each in versions], read, versions[-1])
    return trail


def test_components_are_followed_by_their_ids() -> None:
    versions = [version(1, [0, 1]), version(2, [0, 1, 4]), version(3, [0, 4])]
    trail = filled(versions)
    found = trail.as_dict(feature_plane(versions[-1], ["x", "y"], 0, 1))
    assert found["version"] == [1, 2, 3]
    assert found["id"] == [[0, 1], [0, 1, 4], [0, 4]]
    assert found["x"] == [[0.0, 10.0], [0.0, 10.0, 40.0], [0.0, 40.0]]
    assert found["y"] == [[1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0]]
    assert found["complete"]
    assert [(each["kind"], each["version"], each["ids"]) for each in trail.events] == [
        ("birth", 2, [4]),
        ("death", 3, [1]),
    ]


def test_a_trimmed_version_and_too_many_versions_are_left_out() -> None:
    versions = [version(number, [0, 1]) for number in range(1, 101)]
    trail = filled(versions, missing=1)
    plane = feature_plane(versions[-1], ["x", "y"], 0, 1)
    found = trail.as_dict(plane)
    assert len(found["version"]) == 59
    assert found["version"][-1] == 100
    assert found["id"] is None
    assert not found["complete"]
    for number in range(101, 200):
        trail.add(version(number, [0, 1]))
    assert trail.as_dict(plane)["version"] == list(range(140, 200))


def test_only_the_heaviest_of_many_components_are_followed() -> None:
    newest = version(1, list(range(300)))
    trail = filled([newest])
    found = trail.as_dict(feature_plane(newest, ["x", "y"], 0, 1))
    assert found["id"] == [list(range(44, 300))]


def test_another_model_does_not_continue_a_trail() -> None:
    trail = filled([version(1, [0, 1])])
    trail.add(version(2, [0, 1], model_id=10))
    trail.add(version(1, [0, 1]))
    assert trail.as_dict(feature_plane(version(1, [0, 1]), ["x", "y"], 0, 1))["version"] == [1]


def test_a_difference_pairs_ids_and_names_the_others() -> None:
    old, new = version(1, [0, 1, 2]), version(4, [1, 2, 5])
    found = difference(old, new)
    assert (found["matching"], found["born"], found["died"]) == ("ids", [5], [0])
    assert found["pairs"]["from"] == found["pairs"]["to"] == [1, 2]
    assert found["pairs"]["distance"] == [3.0, 3.0]


def test_components_of_different_models_are_paired_by_distance() -> None:
    old, new = version(1, [0, 1, 2]), version(2, [2, 0], model_id=10)
    new = replace(new, ids=np.array([0, 1]))
    found = difference(old, new)
    assert (found["matching"], found["born"], found["died"]) == ("assignment", [], [1])
    assert found["pairs"]["from"] == [0, 2]
    assert found["pairs"]["to"] == [1, 0]


def test_versions_of_other_features_have_no_difference() -> None:
    old = version(1, [0])
    new = replace(old, params=KMeansParams(np.zeros((1, 3))))
    with pytest.raises(ApiError, match="2 and 3 features"):
        difference(old, new)
