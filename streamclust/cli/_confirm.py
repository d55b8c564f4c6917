"""Questions before a command removes something, or replaces a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from streamclust.cli._render import say
from streamclust.cli.exit_codes import EXIT_ERROR
from streamclust.text import printable

if TYPE_CHECKING:
    from pathlib import Path

yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask for confirmation.")


def confirm(question: str, yes: bool) -> None:
    """Ask on standard error; continue after y or yes on standard input, or if `yes` is set.

    Any other answer ends the command with exit code 1, a missing answer with exit code 2.
    """
    if yes:
        return
    click.echo(printable(f"{question} [y/N] "), err=True, nl=False)
    answer = sys.stdin.readline()
    if not answer:
        click.echo(err=True)
        raise click.UsageError("standard input has no answer; give --yes")
    if answer.strip().lower() not in ("y", "yes"):
        say("nothing was changed")
        raise SystemExit(EXIT_ERROR)


def check_new(path: Path, *, force: bool) -> None:
    """Ask before an existing file is replaced, or refuse without a terminal."""
    from streamclust.errors import DataError

    if not path.exists() or force:
        return
    question = f"{printable(str(path))} exists; replace it?"
    if not (sys.stdin.isatty() and click.confirm(question, err=True)):
        raise DataError(f"{path} exists; replace it with --force, or name another file with --out")
