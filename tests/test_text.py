"""Text that others chose can't do anything but be read."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.errors import ConfigError, DataError, UnknownModelError
from streamclust.runtime.log import command_log
from streamclust.text import csv_cell, exact_json, has_control, known_names, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x", "x"),
        ("température (°C) 温度 🌡", "température (°C) 温度 🌡"),
        (r"C:\x", r"C:\x"),
        ("\x00\x1b[2J\r\n\t\x07", r"\x00\x1b[2J\r\n\t\x07"),
        ("\x7f\x80\x9b\x9f", r"\x7f\x80\x9b\x9f"),
        ("a\u202eb\u202a\u2066c\u2069", r"a\u202eb\u202a\u2066c\u2069"),
        ("a\u200bb\u200dc\ufeff", r"a\u200bb\u200dc\ufeff"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\ud800 \udc41", r"\ud800 \udc41"),
        ("caf\udce9", r"caf\xe9"),
        (b"caf\xe9 \xc3\xa9", r"caf\xe9 é"),
        (b"\x1b\xff\n", r"\x1b\xff\n"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()) | st.binary())
def test_any_text_becomes_one_line_that_can_be_printed(text: str | bytes) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()


def test_a_long_text_is_cut() -> None:
    assert printable("x" * 1000, 5) == "xxxxx..."
    assert printable(b"\x1b" * 1000, 1) == r"\x1b..."


@pytest.mark.parametrize(
    "name", ["a\n", "\x00", "\x1b[0m", "\x7f", "\x9b", "\u202e", "\u2068", "\u2028", "\udce9"]
)
def test_control_characters_are_found(name: str) -> None:
    assert has_control(name)


def test_names_in_any_language_have_none() -> None:
    assert not has_control("naïve x y [red] 温度 می\u200cخواهم \xa0°C")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "＝"])
def test_no_cell_begins_a_formula(start: str) -> None:
    assert csv_cell(f"{start}1+cmd|' /C calc'!A0").startswith("'")
    assert csv_cell(f"x{start}1") == printable(f"x{start}1")


def test_errors_are_printable_whoever_prints_them() -> None:
    hostile = "a\nerror: forged \x1b[2J"
    for kind in (DataError, UnknownModelError):
        assert str(kind(hostile)) == r"a\nerror: forged \x1b[2J"
    # but of the configuration there is a line for each problem
    assert str(ConfigError("one\x1b\ntwo\x9b")) == "one\\x1b\ntwo\\x9b"


@pytest.mark.parametrize("form", ["human", "json"])
def test_logs_are_printable(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    output.isatty = lambda: False  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(
        "streamclust.runtime.log._processors",
        lambda _, real=sys.modules["streamclust.runtime.log"]._processors: real(form),
    )
    log = command_log().bind(host="h\x1b[2J\nforged", raw=b"\x1b\xff")
    try:
        raise ValueError("in a traceback: \x1b[2J\u202e")
    except ValueError:
        log.exception("refused \x9b", reason="\u202e[red]", **{"a\x1b": 1})
    text = output.getvalue()
    assert "forged" in text
    assert "[red]" in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert len([line for line in text.split("\n") if line.startswith("forged")]) == 0


def test_json_is_exact() -> None:
    value = {"a": [1.5, float("nan"), (float("-inf"), None)], "b": "\x1b\ud800", "c": True}
    assert json.loads(exact_json(value)) == {**value, "a": [1.5, None, [None, None]]}
    assert exact_json([0.1, 1e300]) == "[0.1, 1e+300]"


def test_a_name_that_is_not_known_names_the_nearest_or_the_first_twenty() -> None:
    many = [f"tenant-{number}" for number in range(3_000)]
    assert known_names("tenant-12x", many, "models") == "did you mean 'tenant-12'?"
    text = known_names("x", many, "models")
    assert text.startswith("models: tenant-0, tenant-1, ")
    assert text.endswith("tenant-19, and 2,980 more")
    assert known_names("x", [], "models") == "models: none"
