from __future__ import annotations

import numpy as np
import pytest

from streamclust.client.client import Client
from streamclust.demo.recorder import Recorder, Seen
from streamclust.formats.model import Model
from streamclust.models import KMeans, KMeansParams


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
def recorder() -> Recorder:
    """Three versions in two seconds."""
    recorder = Recorder("palette", "pixels", total=1_000, sent=400)
    recorder.versions += [
        Seen(version(1, 100, "1-0"), 10.0),
        Seen(version(2, 200, "2-0", loss=5.0), 11.0),
        Seen(version(3, 350, "2-5", loss=4.0), 12.0),
    ]
    return recorder


def test_lag_counts_what_no_version_covers_yet(recorder: Recorder) -> None:
    assert (recorder.learned, recorder.lag) == (350, 50)


def test_rate_is_that_of_the_last_two_seconds(recorder: Recorder) -> None:
    assert recorder.rate == pytest.approx(125.0)
    recorder.versions.append(Seen(version(4, 950, "3-0"), 13.0))
    assert recorder.rate == pytest.approx(375.0)  # without the version of second 10


def test_rate_after_a_pause_spans_the_pause(recorder: Recorder) -> None:
    recorder.versions.append(Seen(version(4, 450, "3-0"), 22.0))
    assert recorder.rate == pytest.approx(10.0)


def test_before_the_first_versions_there_is_nothing_to_show() -> None:
    recorder = Recorder("palette", "pixels", total=1_000, sent=30)
    assert (recorder.newest, recorder.learned, recorder.lag, recorder.rate) == (None, 0, 30, 0.0)
    assert recorder.scores() == ([], [])
    recorder.versions.append(Seen(version(1, 100, "1-0"), 10.0))
    assert recorder.rate == 0.0


def test_a_version_is_found_by_the_entry_that_it_ends_with(recorder: Recorder) -> None:
    found = recorder.version_at("2-0")
    assert found is not None
    assert found.version == 2
    assert recorder.version_at("2-4") is None


def test_versions_without_a_score_are_left_out(recorder: Recorder) -> None:
    assert recorder.scores() == ([200, 350], [5.0, 4.0])


def test_a_track_takes_in_no_version_when_there_is_none(valkey_url: str, namespace: str) -> None:
    recorder = Recorder("palette", "pixels", total=1)
    looks = iter([False, True])
    with Client(valkey_url, namespace=namespace) as client:
        recorder.follow(client, lambda: next(looks))
    assert recorder.versions == []
