"""Tables on terminals of any width: no number is cut, and no line is wider than the terminal."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from streamclust.cli._render import bars, number
from streamclust.cli._tables import Column, Styled, Table, facts, lay_out
from streamclust.cli._terminal import Terminal

NARROWEST = 12
"""As wide as the widest number and header of these tests."""

NUMBERS = st.floats(allow_nan=False).map(number)
NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=60)
WIDTHS = st.integers(NARROWEST, 200)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Tables of some rows: names, numbers, bars."""
    rows = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(["name", "number", "bars"]), min_size=1, max_size=9))
    cells = {"name": NAMES, "number": NUMBERS, "bars": st.just(bars([1.0, 2.0, 3.0] * 8))}
    return Table(
        [
            Column(
                f"{kind.upper()} {place}",
                right=kind == "number",
                bars=kind == "bars",
                cells=draw(st.lists(cells[kind], min_size=rows, max_size=rows)),
            )
            for place, kind in enumerate(kinds)
        ]
    )


@given(tables(), WIDTHS, st.booleans())
def test_no_number_is_cut_and_no_line_is_too_wide(
    table: Table, width: int, with_optional: bool
) -> None:
    optional = table.columns[:0:-1] if with_optional else []
    layout = lay_out(table, Terminal(width), optional)
    assert max(map(cell_len, layout.lines)) <= width
    words = list(chain.from_iterable(line.split() for line in layout.lines))
    for column in table.columns:
        if column.right and column not in layout.hidden:
            assert all(cell in words for cell in column.cells)


@given(tables())
def test_a_pipe_gets_all_columns_and_whole_names(table: Table) -> None:
    lines = lay_out(table, Terminal(None), table.columns).lines
    for column in table.columns:
        for cell in column.cells:
            assert any(str(cell) in line for line in lines)


def some_table() -> Table:
    table = Table()
    table.add_column("MODEL")
    for header in ("SCORE", "POINTS"):
        table.add_column(header, justify="right")
    table.add_column("WEIGHTS", bars=True)
    table.add_row("machines-of-the-north-0001", "-9.983e-06", "1,234,567,890", "▁▂▃▄▅▆▇█")
    return table


def shown(width: int) -> list[str]:
    table = some_table()
    return lay_out(table, Terminal(width), [table.columns[3], table.columns[2]]).lines


def test_names_are_shortened_before_columns_are_left_out() -> None:
    name, score, points = "machines-of-the-north-0001", "-9.983e-06", "1,234,567,890"
    for width, columns in ((70, 4), (63, 4), (58, 4), (41, 3), (30, 2)):
        first, *others = shown(width)[1].split()
        start, ellipsis, end = first.partition("…")
        assert name.startswith(start)
        assert name.endswith(end)
        assert (ellipsis == "…") == (width < 63)
        assert others == [score, points, "▁▂▃▄▅▆▇█"][: columns - 1]


def test_a_terminal_that_is_too_narrow_for_a_table_gets_a_line_per_cell() -> None:
    assert shown(18) == ["MODEL", "machines-of-the-no", "rth-0001", "SCORE -9.983e-06"]


def test_bars_are_left_out_where_the_terminal_has_no_characters_for_them() -> None:
    layout = lay_out(some_table(), Terminal(60, unicode=False))
    assert [column.header for column in layout.hidden] == ["WEIGHTS"]
    assert layout.lines[1].isascii()


@given(st.lists(NUMBERS, min_size=1), WIDTHS)
def test_facts_keep_numbers_whole(values: list[str], width: int) -> None:
    lines = facts([("score", value) for value in values], Terminal(width), 5)
    assert max(map(cell_len, lines)) <= width
    words = set(chain.from_iterable(line.split() for line in lines))
    assert set(values) <= words


def test_ten_thousand_rows_are_laid_out_at_once() -> None:
    table = Table(
        [Column("A", cells=["x"] * 10_000), Column("B", cells=[Styled("1", "red")] * 10_000)]
    )
    assert len(lay_out(table, Terminal(80)).lines) == 10_001
