"""Output of ``streamclust try``: the proposal, the result, and the commands to continue with."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._components import component_lines
from streamclust.cli._render import number, plural, say, score_meaning
from streamclust.cli._terminal import print_lines, stdout_terminal
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.cli._terminal import Terminal
    from streamclust.quickstart.learning import Learned
    from streamclust.quickstart.picture import View
    from streamclust.quickstart.proposal import Proposal
    from streamclust.tables import TableOptions


@contextmanager
def working(words: str) -> Iterator[None]:
    """Show a spinner on a terminal while a step runs."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(words):
        yield


def show_proposal(proposal: Proposal, file: Path) -> None:
    """Print on standard error how the file is read, and why."""
    from streamclust.models import FAMILIES
    from streamclust.models.family import size_name

    options, remarks = proposal.rows.options, proposal.remarks
    rows = plural(len(proposal.rows.X), "row") + (" and more" * (not proposal.rows.is_complete))
    names = ", ".join(proposal.rows.features[:_MAX_NAMES])
    more = len(proposal.rows.features) - _MAX_NAMES
    lines = [
        f"{file}: {_form(options)}, {rows}, {plural(len(proposal.rows.features), 'feature')}",
        f"  features: {names}{f', +{more} more' if more > 0 else ''}",
        *(f"  {note}" for note in proposal.rows.notes),
    ]
    if options.time_column:
        lines.append(f"  {options.time_column!r} is the event time, and gives entries their IDs")
    if proposal.rows.bad:
        first = f"; the first: {proposal.rows.reason}" if proposal.rows.reason else ""
        lines.append(f"  {plural(proposal.rows.bad, 'bad row')} skipped{first}")
    if remarks.get("kind"):
        lines.append(f"kind {proposal.kind}: {remarks['kind']}")
    if proposal.metric == "cosine":
        lines.append(f"metric cosine: {remarks.get('metric', 'As given.')}")
    lines.append(f"scale {proposal.scale}: {remarks['scale']}")
    size = size_name(FAMILIES[proposal.kind]).removeprefix("n_")
    lines.append(f"{proposal.n_components} {size}: {remarks.get('n_components', 'As given.')}")
    terminal = stdout_terminal()
    for line in lines:
        for part in terminal.wrap(printable(line)):
            say(part)


_MAX_NAMES = 8


def _form(options: TableOptions) -> str:
    """Return the format of a file in words."""
    kind = (options.kind or "").upper()
    if options.kind != "csv" or options.delimiter in (None, ","):
        return kind
    return f"CSV with {options.delimiter!r}" + " and decimal commas" * (options.decimal == ",")


def show_result(proposal: Proposal, learned: Learned, picture: Path | None) -> None:
    """Print the picture as text, the components, and the files that were written."""
    from streamclust.quickstart.picture import draw, make_view

    model, terminal = learned.model, stdout_terminal()
    view = make_view(model, proposal.rows.X, proposal.rows.features)
    print_lines(_picture_lines(view, terminal))
    click.echo()
    print_lines(component_lines(model, terminal, _MAX_COMPONENTS, "; `models show` has all"))
    click.echo()
    points = plural(learned.report.points, "point")
    bad = learned.report.bad
    skipped = f", {plural(bad, 'bad row')} skipped" if bad else ""
    click.echo(f"learned {points} in {learned.seconds:.1f} s{skipped}")
    if model.score is not None:
        click.echo(f"score: {number(model.score)}, {score_meaning(model)}")
    if picture is not None:
        with working("drawing the picture"):
            draw(view, model, proposal.rows.features, picture)
        click.echo(f"picture: {printable(str(picture))}")


_MAX_COMPONENTS = 12


def _picture_lines(view: View, terminal: Terminal) -> list[str]:
    """Return the picture as text in a frame; each character is the number of a cluster."""
    from streamclust.demo.terminal_charts import component_colour
    from streamclust.quickstart.picture import text_rows

    width = min(terminal.width or _WIDTH, _WIDTH)
    edge = "|" if not terminal.unicode else "│"
    rule = ("-" if not terminal.unicode else "─") * (width - 2)
    lines = [rule.join("++" if not terminal.unicode else "┌┐")]
    for row in text_rows(view, width - 2, _HEIGHT):
        cells = (
            symbol if k < 0 else terminal.paint(symbol, component_colour(k)) for symbol, k in row
        )
        lines.append(f"{edge}{''.join(cells)}{edge}")
    lines.append(rule.join("++" if not terminal.unicode else "└┘"))
    directions = zip(("across", "up"), view.axes, strict=True)
    names = [f"{direction}: {name}" for direction, name in directions if name]
    return [*lines, *(line for name in names for line in terminal.wrap(name))]


_WIDTH, _HEIGHT = 78, 16


def show_next(proposal: Proposal, out: Path, file: Path, *, stops: bool) -> None:
    """Print the three commands to continue with; and whether the server `stops` now."""
    name = shlex.quote(proposal.name)
    config = "" if out == Path("config.yaml") else f" -c {shlex.quote(str(out))}"
    suffix = "".join(file.suffixes[-2:]) if file.suffix in (".gz", ".zst") else file.suffix
    click.echo("\nContinue with:")
    ingest = f"streamclust ingest MORE{suffix} --stream {name}{config}"
    for comment, words in (
        ("send more points", [ingest, *_flags(proposal)]),
        ("learn new points until Ctrl-C", [f"streamclust worker{config}"]),
        (
            "write the cluster of each point to a stream",
            [f"streamclust encode {name} --until-idle{config}"],
        ),
    ):
        click.echo(f"  # {comment}")
        for line in _continued(words):
            click.echo(printable(line))
    if stops:
        click.echo(
            "\nThe server stops with the last command. To keep it running, for `status`, `watch`\n"
            "and other programs: streamclust server run --detach"
        )


def _continued(words: list[str]) -> Iterator[str]:
    """Yield the words of a command in lines that fit, joined by backslashes."""
    line = f"  {words[0]}"
    for word in words[1:]:
        if len(line) + len(word) > _WIDTH - 2:
            yield f"{line} \\"
            line = f"   {word}"
        else:
            line += f" {word}"
    yield line


def _flags(proposal: Proposal) -> list[str]:
    """Return the options of `ingest` for more files of this form."""
    options = proposal.rows.options
    values = {
        "--format": None if proposal.format == "fields" else proposal.format,
        "--block": None if proposal.format == "fields" else proposal.block,
        "--columns": _listed(options.columns) if proposal.rows.needs_columns else None,
        "--label-columns": _listed(options.label_columns),
        "--time-column": options.time_column,
        "--time-format": options.time_format,
        "--weight-column": options.weight_column,
        "--key": options.key,
        "--delimiter": None if options.delimiter in (None, ",") else options.delimiter,
        "--decimal": None if options.decimal == "." else options.decimal,
        "--encoding": options.encoding,
        "--on-bad": "skip" if proposal.rows.bad else None,
    }
    words = [f"{flag} {shlex.quote(str(value))}" for flag, value in values.items() if value]
    return words + ["--no-header"] * (options.header is False and options.kind in ("csv", "tsv"))


def _listed(names: tuple[str, ...] | None) -> str | None:
    """Return the names as a value of --columns; a name with a comma is in quotes."""
    if not names:
        return None
    return ",".join(f'"{name}"' if "," in name else name for name in names)


def as_dict(
    proposal: Proposal, learned: Learned, out: Path, picture: Path | None
) -> dict[str, Any]:
    from streamclust.quickstart.picture import draw, make_view

    if picture is not None:
        view = make_view(learned.model, proposal.rows.X, proposal.rows.features)
        draw(view, learned.model, proposal.rows.features, picture)
    return {
        "config": str(out),
        "picture": None if picture is None else str(picture),
        "settings": proposal.model,
        "features": proposal.rows.features,
        "columns": [asdict(column) for column in proposal.rows.columns],
        "bic": None if proposal.size is None else proposal.size.bic,
        "ingested": asdict(learned.report),
        "seconds": learned.seconds,
        "model": learned.model.summary(),
        "means": learned.model.means.tolist(),
    }
