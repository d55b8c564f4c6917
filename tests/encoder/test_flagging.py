"""Flags and alerts of points: which are flagged, where they are, and what their alerts contain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust.config.anomaly import AnomalySettings
from streamclust.encoder.coding import Coded, Coder
from streamclust.encoder.flagging import NONE_FLAGGED, Flagging
from streamclust.formats.alerts import Alert, decode_alert
from streamclust.formats.codes import decode_fields
from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.model import Model
from streamclust.formats.points import encode
from streamclust.models import GaussianMixture, KMeans, MixtureParams
from streamclust.models.score_distribution import ScoreDistribution
from tests.support.encoder_fixture import CENTROIDS, model_of
from tests.support.replies import needs_native, packed

KNOWN = ScoreDistribution().add(np.random.default_rng(0).exponential(size=20_000))
"""Squared distances: about 7 is the threshold for 1 point in 1,000."""


def model(**more: Any) -> Model:
    return model_of(1, **{"features": ("x", "y"), "scores": KNOWN, **more})


def coder(rate: float = 0.001, **more: Any) -> Coder:
    labels = more.pop("labels", ())
    scores = more.pop("scores", ())
    flagging = Flagging(
        AnomalySettings(rate=rate, **more),
        "points",
        frozenset(label.encode() for label in labels),
        lambda: 1700.5,
    )
    spec = PointsFormat(features=("x", "y") if labels else ())
    return Coder(spec, 1, labels, "points", scores=scores, flagging=flagging)


def fields_of(X: Any) -> list[tuple[bytes, list[bytes]]]:
    flats = encode(np.asarray(X, float), Layout("fields", None, None, ("x", "y"), 2, strict=False))
    return [(b"%d-5" % n, [*flat, b"host", b"h%d" % n]) for n, flat in enumerate(flats, 1)]


def blocks_of(X: Any, *sizes: int) -> list[tuple[bytes, list[bytes]]]:
    parts = np.split(np.asarray(X, float), np.cumsum(sizes)[:-1])
    return [(b"%d-5" % n, [b"f8", part.tobytes()]) for n, part in enumerate(parts, 1)]


def alerts_of(coded: Coded) -> list[Alert]:
    return [
        decode_alert("0-0", dict(zip(flat[::2], flat[1::2], strict=True)), "")
        for _, flat in coded.flagged.alerts
    ]


def test_a_point_above_the_threshold_has_an_alert_that_says_why() -> None:
    X = [[0.0, 0.0], [1.0, -4.0], [10.0, 10.5], [-10.0, -16.0]]
    coded = coder(labels=("host",))(fields_of(X), model())
    assert (coded.points, coded.flagged.count) == (4, 2)
    one, two = alerts_of(coded)
    assert (one.entry_id, one.index, one.code, one.version) == ("2-5", 0, 1, 1)
    assert (one.stream, one.labels, one.time_ms) == ("points", {b"host": b"h2"}, 1_700_500)
    assert one.score == 17.0
    assert one.quantile == KNOWN.quantile([17.0])[0]
    y, x = one.top
    assert (y.feature, y.value, y.expected, x.feature) == ("y", -4.0, 0.0, "x")
    np.testing.assert_allclose([y.share, x.share], [16 / 17, 1 / 17])
    assert (two.entry_id, two.code, two.score) == ("4-5", 0, 36.0)
    assert [part.feature for part in two.top] == ["y"]  # x contributes nothing


def test_the_quantile_and_the_flag_agree() -> None:
    X = np.zeros((2000, 2))
    X[:, 0] = np.linspace(0.0, 3.5, 2000)
    coded = coder(rate=0.01, scores=("quantile",))(fields_of(X), model())
    codes = [
        decode_fields("", dict(zip(flat[::2], flat[1::2], strict=True)), "").scores["quantile"][0]
        for _, flat in coded.entries
    ]
    assert coded.flagged.count == sum(quantile > 0.99 for quantile in codes) > 0


def test_only_the_largest_shares_and_the_newest_alerts_are_kept() -> None:
    X = np.full((50, 2), 4.0)
    coded = coder(keep=3, top=1)(fields_of(X), model())
    assert coded.flagged.count == 50
    found = alerts_of(coded)
    assert [each.entry_id for each in found] == ["48-5", "49-5", "50-5"]
    assert [len(each.top) for each in found] == [1, 1, 1]
    both = coded.flagged.followed_by(coder(keep=3)(fields_of(X[:2]), model()).flagged)
    assert (both.count, [each for each, _ in both.alerts]) == (52, [b"50-5", b"1-5", b"2-5"])
    three = both.followed_by(coded.flagged)
    assert (three.count, [each for each, _ in three.alerts]) == (102, [b"48-5", b"49-5", b"50-5"])
    assert len(three.parts) == 1
    assert both.followed_by(NONE_FLAGGED) is both is NONE_FLAGGED.followed_by(both)


@pytest.mark.parametrize("sizes", [(7,), (1, 6), (3, 4), (2, 2, 3)])
def test_a_point_of_a_block_is_named_by_its_place_also_after_bad_ones(
    sizes: tuple[int, ...],
) -> None:
    X = np.zeros((7, 2))
    X[0] = X[4] = np.nan
    X[[3, 5, 6]] = 4.0
    coded = coder()(blocks_of(X, *sizes), model(features=()))
    wanted = [
        (f"{entry}-5", place)
        for entry, (start, size) in enumerate(
            zip(np.cumsum((0, *sizes[:-1])).tolist(), sizes, strict=True), 1
        )
        for place in range(size)
        if start + place in (3, 5, 6)
    ]
    found = alerts_of(coded)
    assert [(each.entry_id, each.index) for each in found] == wanted
    assert found[0].top[0].feature in ("x0", "x1")


@needs_native
def test_of_packed_entries_as_of_lists() -> None:
    entries = fields_of(np.random.default_rng(0).normal(scale=3.0, size=(300, 2)))
    as_lists = coder(labels=("host",), scores=("quantile",))(entries, model())
    as_packed = coder(labels=("host",), scores=("quantile",))(packed(entries), model())
    assert list(as_packed.entries) == list(as_lists.entries)
    assert as_packed.flagged.alerts == as_lists.flagged.alerts
    alone = coder(labels=("host",)).flag(packed(entries), model())
    assert alone.alerts == as_lists.flagged.alerts
    assert as_lists.flagged.count > 10


@pytest.mark.parametrize("scores", [None, ScoreDistribution(), ScoreDistribution().add([1.0, 2.0])])
def test_a_model_that_knows_too_few_scores_flags_nothing(scores: ScoreDistribution | None) -> None:
    coded = coder(scores=("quantile",))(fields_of([[1e6, 1e6]]), model(scores=scores))
    assert coded.flagged is NONE_FLAGGED


def test_ids_of_components_are_the_codes_of_alerts() -> None:
    adapting = model(ids=np.array([3, 8, 11]))
    coded = coder()(fields_of(CENTROIDS + np.array([0.0, 5.0])), adapting)
    assert [each.code for each in alerts_of(coded)] == [3, 8, 11]


def test_an_entry_that_is_refused_has_no_score() -> None:
    coded = coder(scores=("scaled_distance", "quantile")).refuse(b"1-0", "too large", model())
    [(_, flat)] = coded.entries
    found = decode_fields("1-0", dict(zip(flat[::2], flat[1::2], strict=True)), "")
    assert np.isnan(found.scores["quantile"]).all()
    assert np.isnan(found.scores["scaled_distance"]).all()


@pytest.mark.parametrize(
    "family", [KMeans(3, missing="learn"), GaussianMixture(3, missing="learn")]
)
def test_a_missing_value_explains_nothing(family: Any) -> None:
    C = np.stack([np.array([[1.0, 0.9], [0.9, 1.0]])] * 3)
    is_mixture = isinstance(family, GaussianMixture)
    params = MixtureParams(np.full(3, 1 / 3), CENTROIDS, C, "full") if is_mixture else None
    X = np.array([[np.nan, 6.0], [-10.0, np.nan], [4.0, -4.0]])
    scored = model(family=family, **({"params": params} if is_mixture else {}))
    flagging = Flagging(AnomalySettings(rate=0.001), "points", frozenset())
    spec = PointsFormat(features=("x", "y"), missing="learn")
    coded = Coder(spec, 1, (), "points", scores=("quantile",), flagging=flagging)(
        fields_of(X), scored
    )
    first, last = alerts_of(coded)
    assert (first.entry_id, [part.feature for part in first.top]) == ("1-5", ["y"])
    assert first.top[0].share == 1.0
    assert (last.entry_id, len(last.top)) == ("3-5", 2)
