from __future__ import annotations

import numpy as np
import pytest

from streamclust.client.client import Client
from streamclust.demo.track import Seen, Track
from streamclust.models import KMeans, KMeansParams
from streamclust.store.published import Model


def version(number: int, points: int, entry_id: str, loss: float | None = None) -> Model:
    """A version of a model that has learned up to an entry."""
    return Model(
        name="palette",
        version=number,
        reason="step",
        family=KMeans(1),
        params=KMeansParams(np.zeros((1, 3))),
        mass=np.ones(1),
        position={"pixels": entry_id},
        points=points,
        loss=loss,
        time_ms=None,
    )


@pytest.fixture
def track() -> Track:
    """Three versions in two seconds."""
    track = Track("palette", "pixels", total=1_000, sent=400)
    track.versions += [
        Seen(version(1, 100, "1-0"), 10.0),
        Seen(version(2, 200, "2-0", loss=5.0), 11.0),
        Seen(version(3, 350, "2-5", loss=4.0), 12.0),
    ]
    return track


def test_lag_counts_what_no_version_covers_yet(track: Track) -> None:
    assert (track.learned, track.lag) == (350, 50)


def test_rate_is_that_of_the_last_two_seconds(track: Track) -> None:
    assert track.rate == pytest.approx(125.0)
    track.versions.append(Seen(version(4, 950, "3-0"), 13.0))
    assert track.rate == pytest.approx(375.0)  # without the version of second 10


def test_rate_after_a_pause_spans_the_pause(track: Track) -> None:
    track.versions.append(Seen(version(4, 450, "3-0"), 22.0))
    assert track.rate == pytest.approx(10.0)


def test_before_the_first_versions_there_is_nothing_to_show() -> None:
    track = Track("palette", "pixels", total=1_000, sent=30)
    assert (track.newest, track.learned, track.lag, track.rate) == (None, 0, 30, 0.0)
    assert track.scores() == ([], [])
    track.versions.append(Seen(version(1, 100, "1-0"), 10.0))
    assert track.rate == 0.0


def test_a_version_is_found_by_the_entry_that_it_ends_with(track: Track) -> None:
    found = track.at("2-0")
    assert found is not None
    assert found.version == 2
    assert track.at("2-4") is None


def test_versions_without_a_score_are_left_out(track: Track) -> None:
    assert track.scores() == ([200, 350], [5.0, 4.0])


def test_a_track_takes_in_no_version_when_there_is_none(valkey_url: str, namespace: str) -> None:
    track = Track("palette", "pixels", total=1)
    looks = iter([False, True])
    with Client(valkey_url, namespace=namespace) as client:
        track.follow(client, lambda: next(looks))
    assert track.versions == []
