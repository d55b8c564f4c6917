"""``streamclust config``: check, show and explain the settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import server_options
from streamclust.text import printable

if TYPE_CHECKING:
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def check(settings: Settings, as_json: bool) -> None:
    """Check the settings, and list their models. Exit code 2 if the settings are wrong.

    \b
    Examples:
      streamclust config check
      streamclust config check -c prod.yaml --json
    """
    summary = _summary(settings)
    click.echo(json.dumps(summary) if as_json else printable(_sentence(summary)))


@config.command()
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
@click.option("--describe", is_flag=True, help="Add the meaning of each key as a comment.")
def show(settings: Settings, as_json: bool, describe: bool) -> None:
    """Print the settings in use: the file, the environment and the flags, or the defaults.

    Passwords are masked.

    \b
    Examples:
      streamclust config show --describe
      streamclust config show --set log.level=debug --json
    """
    from streamclust.config.show import as_yaml

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


def _summary(settings: Settings) -> dict[str, Any]:
    models = {
        name: {"kind": model.kind, "n_components": model.n_components, "streams": model.streams}
        for name, model in settings.models.items()
    }
    return {"valid": True, "file": settings.file and str(settings.file), "models": models}


def _sentence(summary: dict[str, Any]) -> str:
    models = [
        f"{name}: {model['kind']}, K {model['n_components']}, streams {' '.join(model['streams'])}"
        for name, model in summary["models"].items()
    ]
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    found = f"{count} ({'; '.join(models)})" if models else "no models"
    return (
        f"{summary['file']} is valid: {found}"
        if summary["file"]
        else f"the settings are valid (no file): {found}"
    )
