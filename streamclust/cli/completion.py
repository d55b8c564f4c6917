"""``streamclust completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes streamclust's commands and options in your shell.

    \b
    Examples:
      streamclust completion bash > ~/.local/share/bash-completion/completions/streamclust
      source <(streamclust completion zsh)
      streamclust completion fish > ~/.config/fish/completions/streamclust.fish
    """
    from streamclust.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(cli, {}, "streamclust", "_STREAMCLUST_COMPLETE").source())
