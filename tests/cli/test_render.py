"""Tables on narrow terminals: columns are left out, and no cell is cut."""

from __future__ import annotations

import pytest

from streamclust.cli._render import plain_table, print_table

CELLS = ("machines", "-9.983e-06", "1,234,567,890", "▁▂▃▄▅▆▇█")


@pytest.mark.parametrize(("width", "hidden"), [(80, 0), (40, 1), (30, 2), (5, 2)])
def test_a_table_leaves_out_columns_and_cuts_none(
    width: int, hidden: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = plain_table()
    for header in ("MODEL", "SCORE", "POINTS", "WEIGHTS"):
        table.add_column(header, no_wrap=True)
    table.add_row(*CELLS)
    optional = [table.columns[3], table.columns[0]]
    assert print_table(table, optional) == hidden
    header, row = capsys.readouterr().out.splitlines()
    shown = [cell for cell in CELLS if cell not in (CELLS[3], CELLS[0])[:hidden]]
    assert row.split() == shown
    assert len(header.split()) == len(shown)
