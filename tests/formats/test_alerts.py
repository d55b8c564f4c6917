"""Entries of alerts: what is written is read back; the bytes don't change; others are refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from streamclust.errors import FormatError
from streamclust.formats.alerts import Alert, FeatureShare, decode_alert, encode_alert

ALERT = Alert(
    number=7,
    stream="points",
    entry_id="1700000000000-3",
    index=2,
    code=5,
    score=12.5,
    quantile=0.99975,
    version=42,
    top=(FeatureShare("température", 0.75, 95.25, 61.0), FeatureShare("load", 0.25, -1.5, 0.0)),
    labels={b"host": b"a\xff\x1b[31m"},
    time_ms=1700000000123,
)


def as_dict(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize(
    "alert",
    [
        ALERT,
        replace(ALERT, model_id=3, labels={}, top=()),
        replace(ALERT, stream="caf\udce9", labels={b"": b"", b"label:x": b"1"}),
    ],
)
def test_what_is_written_is_read_back(alert: Alert) -> None:
    assert decode_alert("7-0", as_dict(encode_alert(alert)), "alerts") == alert


def test_the_bytes_of_an_alert_are_stable() -> None:
    assert encode_alert(ALERT) == [
        *(b"stream", b"points", b"id", b"1700000000000-3", b"index", b"2"),
        *(b"time", b"1700000000123", b"event_time", b"1700000000000"),
        *(b"code", b"5", b"score", b"12.5", b"quantile", b"0.99975", b"version", b"42"),
        b"top",
        '[{"feature": "température", "share": 0.75, "value": 95.25, "expected": 61.0}, '
        '{"feature": "load", "share": 0.25, "value": -1.5, "expected": 0.0}]'.encode(),
        *(b"label:host", b"a\xff\x1b[31m"),
    ]


def test_numbers_that_json_does_not_have_are_null() -> None:
    given = replace(ALERT, top=(FeatureShare("x", 1.0, math.inf, math.nan),))
    fields = as_dict(encode_alert(given))
    assert b'"value": null, "expected": null' in fields[b"top"]
    [part] = decode_alert("7-0", fields, "alerts").top
    assert math.isnan(part.value)


def test_a_quantile_is_also_one_in_so_many() -> None:
    assert replace(ALERT, quantile=0.75).one_in == 4.0
    assert replace(ALERT, quantile=1.0).one_in == math.inf


def test_json_has_texts_of_any_bytes() -> None:
    found = ALERT.to_dict()
    assert found["labels"] == {"host": "a\\xff\x1b[31m"}
    assert found["event_time_ms"] == 1700000000000
    assert found["top"][0]["feature"] == "température"
    assert "model_id" not in found


@pytest.mark.parametrize(
    "change",
    [
        {b"id": b"abc"},
        {b"id": b"\xff"},
        {b"score": b"x"},
        {b"index": b""},
        {b"top": b"[1]"},
        {b"top": b"{"},
        {b"top": b'[{"feature": "x"}]'},
    ],
)
def test_something_else_is_refused(change: dict[bytes, bytes]) -> None:
    fields = as_dict(encode_alert(ALERT)) | change
    with pytest.raises(FormatError, match="alerts-key entry 7-0 holds no alert"):
        decode_alert("7-0", fields, "alerts-key")
    with pytest.raises(FormatError, match="holds no alert"):
        decode_alert("7-0", {}, "alerts-key")
