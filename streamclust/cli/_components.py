"""Tables of a model's components: of one version, and of the change between two."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

from streamclust.cli._render import WIDEST_NAME, numbers, plural
from streamclust.cli._tables import Column, Styled, Table, lay_out
from streamclust.cli._terminal import MUTED, WARNING, shorten
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array
    from streamclust.cli._tables import Cell
    from streamclust.cli._terminal import Terminal
    from streamclust.formats.model import Model

_PIPE_WIDTH = 80
"""Width of the columns of features in a pipe or file."""

_WIDEST_FEATURE = 20
"""Width to which names of features are shortened on a terminal."""


def component_lines(
    model: Model, terminal: Terminal, most: int | None = None, rest: str = ""
) -> list[str]:
    """Return a table with the weight, the share and the centroid or mean of each component.

    Parameters
    ----------
    model : Model
    terminal : Terminal
    most : int, optional
        Number of components to show: those with the largest weights. Default: all.
    rest : str
        Text that says where the other components are.
    """
    import numpy as np

    rows = np.arange(len(model.mass))
    if most is not None and len(rows) > most:
        rows = np.sort(np.argsort(-model.mass, kind="stable")[:most])
    table = Table()
    for header, cells in (
        ("#", [str(number) for number in model.numbers[rows].tolist()]),
        ("WEIGHT", [f"{mass:,.1f}" for mass in model.mass[rows].tolist()]),
        ("SHARE", [f"{part:.2%}" for part in share(model)[rows].tolist()]),
    ):
        table.add_column(header, justify="right").cells.extend(cells)
    lines = with_features(table, model.features, model.means[rows], terminal, [table.columns[1]])
    left_out = len(model.mass) - len(rows)
    if left_out:
        lines += _muted(terminal, f"+{plural(left_out, 'lighter component')}{rest}")
    return lines


def difference_lines(before: Model, after: Model, most: int, terminal: Terminal) -> list[str]:
    """Return a table of the changes from one version to another; the largest moves come first."""
    old, new = _Version(before), _Version(after)
    moved = dict(zip(after.numbers.tolist(), after.displacement_from(before).tolist(), strict=True))
    changes = sorted(
        {*old.rows, *new.rows},
        key=lambda k: (
            -1.0 if k not in old.rows or k not in new.rows else 0.0,
            -moved.get(k, 0.0),
            -abs(new.share(k) - old.share(k)),
            k,
        ),
    )
    shown = changes[:most] if most else changes
    table = Table()
    for header in ("#", "MOVED", f"SHARE {before.version}", f"SHARE {after.version}", "CHANGE"):
        table.add_column(header, justify="right")
    distances = numbers([moved[k] for k in shown if k in old.rows and k in new.rows])
    for k in shown:
        table.add_row(str(k), *_change(k, old, new, distances))
    import numpy as np

    differences = np.array([new.mean(k) - old.mean(k) for k in shown])
    optional = table.columns[2:4]
    lines = with_features(table, after.features, differences, terminal, optional, signed=True)
    if len(shown) < len(changes):
        rest = plural(len(changes) - len(shown), "component")
        lines += _muted(terminal, f"+{rest} that moved less; `--top 0` shows all")
    return lines


def _change(k: int, old: _Version, new: _Version, distances: list[str]) -> Sequence[Cell]:
    if k not in new.rows:
        return Styled("died", WARNING), f"{old.share(k):.2%}", "-", "-"
    if k not in old.rows:
        return Styled("born", WARNING), "-", f"{new.share(k):.2%}", "-"
    change = 100.0 * (new.share(k) - old.share(k))
    return distances.pop(0), f"{old.share(k):.2%}", f"{new.share(k):.2%}", f"{change:+.2f} pp"


def share(model: Model) -> Array:
    """Return the share of the weight of each component, shape (K,)."""
    return model.mass / (float(model.mass.sum()) or 1.0)


def centroid_changes(before: Model, after: Model) -> list[list[float] | None]:
    """Return the new minus the old centroid or mean of each component; None for a new component."""
    old, new = _Version(before), _Version(after)
    return [(new.mean(k) - old.mean(k)).tolist() if k in old.rows else None for k in new.rows]


class _Version:
    """The rows of a version's components, by number."""

    def __init__(self, model: Model) -> None:
        self.rows = {k: row for row, k in enumerate(model.numbers.tolist())}
        self._shares = share(model)
        self._means = model.means

    def share(self, k: int) -> float:
        return float(self._shares[self.rows[k]]) if k in self.rows else 0.0

    def mean(self, k: int) -> Array:
        import numpy as np

        nowhere = np.full(self._means.shape[1], np.nan)
        return self._means[self.rows[k]] if k in self.rows else nowhere


def with_features(
    table: Table,
    features: Sequence[str],
    values: Array,
    terminal: Terminal,
    optional: Sequence[Column],
    *,
    signed: bool = False,
) -> list[str]:
    """Return the lines of a table with a column for each feature that fits, and a note.

    Parameters
    ----------
    table : Table
        The columns before the features.
    features : sequence of str
        Names of the features; empty if they have no names.
    values : array of shape (rows, D)
    terminal : Terminal
    optional : sequence of Column
        Columns to leave out after all features but the first.
    signed : bool
        Whether the values are changes. If not all features fit, the largest changes are shown.
    """
    D = values.shape[1]
    limited = replace(terminal, width=terminal.width or _PIPE_WIDTH)
    names = [printable(name, WIDEST_NAME) for name in features or map("x{}".format, range(D))]

    def laid_out(order: Sequence[int]) -> tuple[list[str], int]:
        columns = []
        for d in order[: max(limited.width or 0, 4) // 4]:
            column = Column(shorten(names[d], _WIDEST_FEATURE, terminal.ellipsis), right=True)
            texts = numbers(values[:, d].tolist(), signed=signed)
            pairs = zip(values[:, d].tolist(), texts, strict=True)
            column.cells.extend("-" if isnan(value) else text for value, text in pairs)
            columns.append(column)
        whole = Table([*table.columns, *columns])
        layout = lay_out(whole, limited, [*columns[:0:-1], *optional, *columns[:1]])
        shown = sum(column not in layout.hidden for column in columns)
        return layout.lines, D - shown

    lines, hidden = laid_out(range(D))
    if hidden and signed:
        import numpy as np

        by_change = np.argsort(-np.nansum(values**2, axis=0), kind="stable")
        lines, hidden = laid_out(by_change.tolist())
    if hidden:
        which = " that changed less" if signed else ""
        note = f"+{plural(hidden, 'more feature')}{which}; --json has all"
        lines += _muted(terminal, note)
    return lines


def _muted(terminal: Terminal, text: str) -> list[str]:
    return [terminal.paint(line, MUTED) for line in terminal.wrap(text)]
