"""``streamclust try``."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._render import SCORES, bars, number, plural, say
from streamclust.cli._table_options import table_options
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.cli._terminal import Terminal
    from streamclust.quickstart.learning import Learned, Progress
    from streamclust.quickstart.picture import View
    from streamclust.quickstart.proposal import Proposal
    from streamclust.quickstart.size import Kind
    from streamclust.tables import TableOptions


@click.command("try")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the model and the stream.  [default: FILE's]")
@click.option(
    "--model-kind",
    type=click.Choice(("kmeans", "gaussian_mixture")),
    help="Kind of the model.  [default: kmeans; a mixture if far points have most of the variance]",
)
@click.option(
    "-k",
    "n_components",
    type=click.IntRange(min=1),
    metavar="K",
    help="Number of components.  [default: by the BIC, from 1 to 20]",
)
@table_options(
    "Features, in order.  [default: all columns of numbers, without identifiers and classes]",
    ("stop", "skip"),
    "What to do with a bad row: stop with an error, or skip it.  [default: skip]",
    ingest=True,
)
@click.option("--dry-run", is_flag=True, help="Print the config.yaml, and write and learn nothing.")
@click.option("--force", is_flag=True, help="Replace config.yaml, the stream and the model.")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="config.yaml",
    show_default=True,
    help="Settings file to write.",
)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the picture.  [default: NAME.png; none without matplotlib]",
)
@click.option("--no-png", is_flag=True, help="Draw no PNG.")
@click.option(
    "--redis-url", metavar="URL", default="embedded", show_default=True, help="Redis server."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def try_file(
    file: Path,
    name: str | None,
    model_kind: Kind | None,
    n_components: int | None,
    table: dict[str, Any],
    dry_run: bool,
    force: bool,
    out: Path,
    png: Path | None,
    no_png: bool,
    redis_url: str,
    as_json: bool,
) -> None:
    """Learn a model of FILE: propose settings, write config.yaml, learn, and draw a picture.

    FILE is CSV, TSV, JSON lines, NumPy's .npy or .npz, or Parquet. The command finds the separator,
    the header, times and labels, and proposes the features, their scale and the number of clusters.
    It writes the proposal to a commented config.yaml, sends the points to a stream of the embedded
    server in this folder, and learns them. Edit the file, and continue with the commands that are
    printed at the end.

    \b
    Examples:
      streamclust try points.csv
      streamclust try points.csv --dry-run             only print the config.yaml
      streamclust try log.parquet -k 8 --columns temperature,load
      streamclust try europe.csv --delimiter ';' --decimal , --force
    """
    from streamclust.cli.init import check_new
    from streamclust.config.starter import starter_file
    from streamclust.quickstart.picture import can_draw
    from streamclust.quickstart.proposal import propose
    from streamclust.tables import TableOptions

    if not dry_run:
        check_new(out, force=force)
    options = TableOptions(**{key: value for key, value in table.items() if value is not None})
    with _working("reading the file and comparing numbers of clusters"):
        proposal = propose(file, options, name=name, kind=model_kind, n_components=n_components)
    text = starter_file(proposal.name, proposal.model, proposal.remarks, redis_url)
    _show_proposal(proposal, file)
    if dry_run:
        click.echo(text, nl=False)
        return
    picture = None if no_png or not (png or can_draw()) else png or Path(f"{proposal.name}.png")
    learned = _learn(file, proposal, text, out, picture, force=force)
    if as_json:
        click.echo(exact_json(_as_dict(proposal, learned, out, picture)))
    else:
        _show_result(proposal, learned, picture)
        _show_next(proposal, out, file)


@contextmanager
def _working(words: str) -> Iterator[None]:
    """Show a spinner on a terminal while a step runs."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(words):
        yield


def _show_proposal(proposal: Proposal, file: Path) -> None:
    """Print on standard error how the file is read, and why."""
    from streamclust.cli._terminal import stdout_terminal

    options, remarks = proposal.options, proposal.remarks
    rows = plural(len(proposal.X), "row") if proposal.complete else "many rows"
    names = ", ".join(proposal.features[:_MOST_NAMES])
    more = len(proposal.features) - _MOST_NAMES
    lines = [
        f"{file}: {_form(options)}, {rows}, {plural(len(proposal.features), 'feature')}",
        f"  features: {names}{f', +{more} more' if more > 0 else ''}",
        *(f"  {note}" for note in proposal.notes),
    ]
    if options.time_column:
        lines.append(f"  {options.time_column!r} is the event time, and gives entries their IDs")
    if proposal.bad:
        lines.append(f"  {plural(proposal.bad, 'bad row')} skipped: no number in some feature")
    if remarks.get("kind"):
        lines.append(f"kind {proposal.kind}: {remarks['kind']}")
    lines.append(f"scale {proposal.scale}: {remarks['scale']}")
    size = "clusters" if proposal.kind == "kmeans" else "components"
    lines.append(f"{proposal.n_components} {size}: {remarks.get('n_components', 'As given.')}")
    terminal = stdout_terminal()
    for line in lines:
        for part in terminal.wrap(printable(line)):
            say(part)


_MOST_NAMES = 8


def _form(options: TableOptions) -> str:
    """Return the format of a file in words."""
    kind = (options.kind or "").upper()
    if options.kind != "csv" or options.delimiter in (None, ","):
        return kind
    return f"CSV with {options.delimiter!r}" + " and decimal commas" * (options.decimal == ",")


def _learn(
    file: Path, proposal: Proposal, text: str, out: Path, picture: Path | None, *, force: bool
) -> Learned:
    """Write the settings, send the points and learn them."""
    from streamclust.cli._server import opened_server
    from streamclust.config.load import parse_settings
    from streamclust.files import check_target, write_whole
    from streamclust.quickstart.learning import check_free, delete, learn
    from streamclust.store.model.keys import Keys

    check_target(out)
    if picture is not None:
        check_target(picture)
    settings = parse_settings(text, str(out), os.environ)
    with opened_server(settings) as server:
        client, keys = server.client(), Keys(settings.namespace, proposal.name)
        if force:
            delete(client, keys, proposal.name)
        check_free(client, keys, proposal.name)
        write_whole(out, text.encode())
        say(f"wrote {printable(str(out))}")
        total = len(proposal.X) if proposal.complete else None
        try:
            with _progress(total) as show:
                return learn(settings, server, proposal, file, show)
        except KeyboardInterrupt:
            say(
                f"stopped; the points sent so far are in stream {proposal.name!r}, and "
                "`streamclust worker` learns them"
            )
            raise SystemExit(EXIT_INTERRUPTED) from None


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Progress], None]]:
    """Show bars of the points sent and learned, and a curve of the score, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(30),
        TextColumn("{task.fields[text]}"),
    )
    with Bars(*columns, console=console, transient=True) as display:
        sent = display.add_task("sent", total=total, text="")
        learned = display.add_task("learned", total=total, text="")

        def show(progress: Progress) -> None:
            display.update(sent, completed=progress.sent, text=f"{progress.sent:,} points")
            curve = bars(progress.scores[-16:], 16)
            display.update(
                learned, completed=progress.learned, text=f"{progress.learned:,} points  {curve}"
            )

        yield show


def _show_result(proposal: Proposal, learned: Learned, picture: Path | None) -> None:
    """Print the picture as text, the components, and the files that were written."""
    from streamclust.cli._components import component_lines
    from streamclust.cli._terminal import show, stdout_terminal
    from streamclust.quickstart.picture import draw, make_view

    model, terminal = learned.model, stdout_terminal()
    view = make_view(model, proposal.X, proposal.features)
    show(_picture_lines(view, terminal))
    click.echo()
    show(component_lines(model, terminal, _MOST_COMPONENTS, "; `models show` has all"))
    click.echo()
    points = plural(learned.report.points, "point")
    bad = learned.report.bad
    skipped = f", {plural(bad, 'bad row')} skipped" if bad else ""
    click.echo(f"learned {points} in {learned.seconds:.1f} s{skipped}")
    if model.score is not None:
        click.echo(f"score: {number(model.score)} {SCORES[model.score_name]}")
    if picture is not None:
        with _working("drawing the picture"):
            draw(view, model, proposal.features, picture)
        click.echo(f"picture: {printable(str(picture))}")


_MOST_COMPONENTS = 12


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
    names = [f"{arrow} {name}" for arrow, name in zip("xy", view.axes, strict=True) if name]
    return [*lines, *(line for name in names for line in terminal.wrap(name))]


_WIDTH, _HEIGHT = 78, 16


def _show_next(proposal: Proposal, out: Path, file: Path) -> None:
    """Print the three commands to continue with."""
    name = shlex.quote(proposal.name)
    config = "" if out == Path("config.yaml") else f" -c {shlex.quote(str(out))}"
    suffix = "".join(file.suffixes[-2:]) if file.suffix in (".gz", ".zst") else file.suffix
    click.echo("\nContinue with:")
    ingest = f"streamclust ingest MORE{suffix} --stream {name}"
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
    options = proposal.options
    named = options.kind not in ("npy", "npz")
    values = {
        "--format": None if proposal.format == "fields" else proposal.format,
        "--block": None if proposal.format == "fields" else proposal.block,
        "--columns": _listed(options.columns) if named else None,
        "--label-columns": _listed(options.label_columns),
        "--time-column": options.time_column,
        "--time-format": options.time_format,
        "--weight-column": options.weight_column,
        "--key": options.key,
        "--delimiter": None if options.delimiter in (None, ",") else options.delimiter,
        "--decimal": None if options.decimal == "." else options.decimal,
        "--encoding": options.encoding,
        "--on-bad": "skip" if proposal.bad else None,
    }
    words = [f"{flag} {shlex.quote(str(value))}" for flag, value in values.items() if value]
    return words + ["--no-header"] * (options.header is False and options.kind in ("csv", "tsv"))


def _listed(names: tuple[str, ...] | None) -> str | None:
    """Return the names as a value of --columns; a name with a comma is in quotes."""
    if not names:
        return None
    return ",".join(f'"{name}"' if "," in name else name for name in names)


def _as_dict(
    proposal: Proposal, learned: Learned, out: Path, picture: Path | None
) -> dict[str, Any]:
    from streamclust.quickstart.picture import draw, make_view

    if picture is not None:
        view = make_view(learned.model, proposal.X, proposal.features)
        draw(view, learned.model, proposal.features, picture)
    return {
        "config": str(out),
        "picture": None if picture is None else str(picture),
        "settings": proposal.model,
        "features": proposal.features,
        "columns": [asdict(column) for column in proposal.columns],
        "bic": None if proposal.size is None else proposal.size.bic,
        "ingested": asdict(learned.report),
        "seconds": learned.seconds,
        "model": learned.model.summary(),
    }
