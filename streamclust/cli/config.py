"""``streamclust config``: check, show and explain the settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import server_options
from streamclust.cli._render import plural
from streamclust.cli._terminal import BAD, WARNING, print_lines, stdout_terminal
from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_OK, EXIT_SERVER
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.checks.check import Check
    from streamclust.config import Settings


@click.group()
def config() -> None:
    """Check, show and explain the settings.

    \b
    Examples:
      streamclust config check -c prod.yaml
      streamclust config show --describe
    """


@config.command()
@server_options
@click.option(
    "--connect",
    is_flag=True,
    help="Also check the server, the user's rights, streams, states and init files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def check(settings: Settings, connect: bool, as_json: bool) -> None:
    """Check the settings, and list their models. Exit code 2 if the settings are wrong.

    With --connect each check is one line: ok, warn or fail, what was found, and what to do. The
    command changes nothing, and it doesn't start the embedded server. The exit code is 1 if a check
    failed, and 3 if the server can't be reached. Warnings don't change the exit code.

    \b
    Examples:
      streamclust config check
      streamclust config check --connect
      streamclust config check -c prod.yaml --connect --json
    """
    models = {
        name: {"kind": model.kind, "n_components": model.n_components, "streams": model.streams}
        for name, model in settings.models.entries.items()
    }
    summary = {"valid": True, "file": settings.file and str(settings.file), "models": models}
    if not connect:
        click.echo(json.dumps(summary) if as_json else printable(_sentence(summary)))
        return
    raise SystemExit(_connect(settings, summary, as_json))


@config.command(short_help="Print the settings in use.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
@click.option("--describe", is_flag=True, help="Add the meaning of each key as a comment.")
def show(settings: Settings, as_json: bool, describe: bool) -> None:
    """Print the settings in use, from the file, the environment, the flags and the defaults.

    Passwords are masked.

    \b
    Examples:
      streamclust config show --describe
      streamclust config show --set log.level=debug --json
    """
    from streamclust.config.write import as_yaml

    if as_json:
        click.echo(json.dumps(settings.to_dict(), indent=2))
    else:
        click.echo(as_yaml(settings, describe=describe), nl=False)


@config.command()
def reference() -> None:
    """Print the Markdown page that explains each setting.

    \b
    Example:
      streamclust config reference > docs/configuration.md
    """
    from streamclust.config.reference import markdown

    click.echo(markdown(), nl=False)


def _sentence(summary: dict[str, Any]) -> str:
    models = [
        f"{name}: {model['kind']}, K {model['n_components']}, streams {' '.join(model['streams'])}"
        for name, model in summary["models"].items()
    ]
    count = plural(len(models), "model")
    found = f"{count} ({'; '.join(models)})" if models else "no models"
    return (
        f"{summary['file']} is valid: {found}"
        if summary["file"]
        else f"the settings are valid (no file): {found}"
    )


def _connect(settings: Settings, summary: dict[str, Any], as_json: bool) -> int:
    """Run all checks, print each as soon as it is done, and return the exit code."""
    from streamclust.checks.check import Check
    from streamclust.errors import ServerError

    found: list[Check] = []
    code = EXIT_OK
    checks = _checks(settings, summary)
    while True:
        try:
            each = next(checks)
        except StopIteration:
            break
        except ServerError as error:
            each, code = Check("fail", "server", str(error)), EXIT_SERVER
        found.append(each)
        if not as_json:
            terminal = stdout_terminal()
            first, *more = terminal.fold(printable(f"{each.state:<5}{each.about}: {each.text}"))
            print_lines([terminal.paint(first[:5], _STYLES[each.state]) + first[5:], *more])
    if as_json:
        click.echo(exact_json(summary | {"checks": [asdict(each) for each in found]}))
    failed = any(each.state == "fail" for each in found)
    return code or (EXIT_ERROR if failed else EXIT_OK)


def _checks(settings: Settings, summary: dict[str, Any]) -> Iterator[Check]:
    from streamclust.checks.check import Check
    from streamclust.checks.run import check_offline, check_online
    from streamclust.cli._server import opened_server
    from streamclust.store.server.keeper import running_endpoint

    yield Check("ok", "settings", _sentence(summary))
    yield from check_offline(settings)
    data_dir = settings.redis.data_dir
    if settings.redis.url == "embedded" and running_endpoint(data_dir) is None:
        yield Check(
            "warn",
            "server",
            f"the embedded server doesn't run in {data_dir.expanduser().resolve()}, so streams and "
            "states weren't checked; start it with: streamclust server run",
        )
        return
    with opened_server(settings) as server:
        yield from check_online(settings, server)


_STYLES = {"ok": "green", "warn": WARNING, "fail": BAD}
