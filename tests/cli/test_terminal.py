"""Width, colours and characters of the terminal, pipe or file that a command writes to."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import ColorSystem

from streamclust.cli._terminal import BAD, MUTED, Terminal, cells, shorten, stdout_terminal

NAMES = st.text(st.characters(categories=["L", "N", "P"]), max_size=40)


@pytest.fixture(autouse=True)
def neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> Terminal:
    """Return what `stdout_terminal` finds on a terminal without a size."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    return stdout_terminal()


def test_a_pipe_has_no_width_and_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = stdout_terminal()
    assert terminal == Terminal(None, None)
    assert terminal.paint("x", BAD) == "x"
    assert terminal.wrap("word " * 99) == ["word " * 99]


def test_columns_is_the_width_of_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert stdout_terminal().width == 40
    assert on_a_terminal(monkeypatch).width == 40
    for nonsense in ("", "0", "-1", "wide", "٤"):
        monkeypatch.setenv("COLUMNS", nonsense)
        assert on_a_terminal(monkeypatch).width in (80, 4)


def test_colours_are_for_terminals_or_where_they_are_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert stdout_terminal().paint("x", BAD) == "\x1b[1;31mx\x1b[0m"
    monkeypatch.delenv("FORCE_COLOR")
    assert on_a_terminal(monkeypatch).paint("x", BAD) == "\x1b[1;31mx\x1b[0m"


def test_no_color_leaves_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = on_a_terminal(monkeypatch)
    assert terminal.paint("x", BAD) == "\x1b[1mx\x1b[0m"
    assert terminal.paint("x", MUTED) == "\x1b[2mx\x1b[0m"


def test_a_dumb_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert on_a_terminal(monkeypatch).paint("x", BAD) == "x"


def test_a_latin_1_terminal_gets_an_ellipsis_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_a_terminal(monkeypatch).ellipsis == "…"
    assert on_a_terminal(monkeypatch, "latin-1").ellipsis == "..."


@given(st.lists(NAMES), st.integers(2, 60), st.booleans())
def test_paragraphs_fit(words: list[str], width: int, coloured: bool) -> None:
    terminal = Terminal(width, ColorSystem.STANDARD if coloured else None)
    text = " ".join(words)
    lines = terminal.wrap(text)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(NAMES, st.integers(4, 45), st.sampled_from(["…", "..."]), st.booleans())
def test_a_shortened_text_fits_and_keeps_its_start(
    text: str, width: int, ellipsis: str, at_end: bool
) -> None:
    short = shorten(text, width, ellipsis, at_end=at_end)
    assert cells(short) <= width
    assert short == text if cells(text) <= width else text.startswith(short.split(ellipsis)[0])
