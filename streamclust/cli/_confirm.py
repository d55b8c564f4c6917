"""The question before a command removes something."""

from __future__ import annotations

import sys

import click

from streamclust.cli._render import say
from streamclust.cli.exit_codes import EXIT_ERROR
from streamclust.text import printable

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
