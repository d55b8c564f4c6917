"""Output of ``streamclust models map``: where the points of each component went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.cli._tables import Table, lay_out
from streamclust.text import printable

if TYPE_CHECKING:
    from streamclust.cli._terminal import Terminal
    from streamclust.models.codebook import VersionMap


def map_dict(found: VersionMap, old: int, new: int) -> dict[str, Any]:
    """Return the map for JSON."""
    columns = (found.old.tolist(), found.new.tolist(), found.share.tolist())
    names = ("from", "to", "share")
    return {
        "versions": [old, new],
        "moved": found.moved,
        "successors": {str(k): to for k, to in found.successors.items()},
        "pairs": [dict(zip(names, pair, strict=True)) for pair in zip(*columns, strict=True)],
    }


def map_lines(found: VersionMap, model: str, old: int, new: int, terminal: Terminal) -> list[str]:
    """Return a table with the successor of each component, and a sentence."""
    table = Table()
    for header in ("FROM", "TO", "SHARE", "KEPT"):
        table.add_column(header, justify="right")
    for k, successor in found.successors.items():
        share = float(found.share[found.old == k].sum())
        kept = float(found.share[(found.old == k) & (found.new == successor)].sum())
        table.add_row(str(k), str(successor), f"{share:.2%}", f"{kept / share:.2%}")
    head = f"{printable(model)} {old} -> {new}: {found.moved:.2%} of the points change components"
    return [*terminal.wrap(head), *lay_out(table, terminal, table.columns[2:3]).lines]
