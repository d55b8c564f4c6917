"""``streamclust``: the group of all commands, and what becomes of errors."""

from __future__ import annotations

import errno
import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from streamclust.cli.common import EXIT_INTERRUPTED, discard, say
from streamclust.errors import ConfigError, ModelsFailedError, ServerError, StreamclustError
from streamclust.text import printable
from streamclust.version import __version__

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_SERVER = 3

_COMMANDS = {
    "worker": "Learn models from streams of points, and publish them.",
    "encode": "Write the code of each point of a stream, or of a file.",
    "decode": "Give back the points of a file that `encode` wrote.",
    "ingest": "Send points from files or standard input into a stream.",
    "watch": "Follow a model's updates as they are published.",
    "models": "List, show, compare, export the versions of a model; go back to one.",
    "refit": "Fit a model anew to all retained points, and swap it in.",
    "score": "Figures of a model on its points: J, log-likelihood, AIC, BIC, silhouette.",
    "select": "Try numbers of components, and draw the elbow and the BIC.",
    "status": "Show models, workers and what is still to learn.",
    "metrics": "What `status` shows, for Prometheus.",
    "demo": "Learn from two real feeds, live, and draw the results.",
    "config": "Check, show and explain the settings.",
    "completion": "Print the script that completes commands in your shell.",
}


class _Commands(click.Group):
    """Imports a command when it is run or asked for help, so that starting costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"streamclust.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamclustError as error:
            for line in str(error).split("\n"):
                say(f"error: {line}")
            ctx.exit(_exit_code(error))
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except MemoryError:
            say("error: out of memory; give it less data, or more memory")
            ctx.exit(EXIT_ERROR)
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message)
            raise


def _exit_code(error: StreamclustError) -> int:
    if isinstance(error, ModelsFailedError):
        first = next(iter(error.failures.values()))
        return _exit_code(first) if isinstance(first, StreamclustError) else EXIT_ERROR
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    return EXIT_SERVER if isinstance(error, ServerError) else EXIT_ERROR


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value:
        return
    from streamclust.kernels import describe

    try:
        click.echo(f"streamclust {__version__} (kernels: {describe()})")
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    ctx.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and the kernels in use, and exit.",
)
def cli() -> None:
    """Streaming online clustering over Redis streams.

    A worker reads points from a stream, learns K-means or a Gaussian mixture, and publishes
    versioned models that other programs follow.

    \b
    Try it:
      streamclust demo                                      a minute, real data, pictures
    Use it:
      streamclust ingest points.csv --stream points         fill a stream
      streamclust worker --config config.yaml               learn from it
      streamclust watch MODEL                               see the model change

    Exit codes: 0 all is well, 1 an error, 2 wrong usage or settings, 3 the server,
    130 Ctrl-C.
    """


def main() -> None:
    """Run the command line."""
    try:
        _prepare_streams()
        cli()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        sys.stderr.close()
        sys.exit(EXIT_ERROR)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or error.filename:
            raise
        say(f"error: can't write the output: {error.strerror}")
        discard(sys.stdout)
        sys.exit(EXIT_ERROR)
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            discard(sys.stderr)


def _prepare_streams() -> None:
    """See that standard input, output and error are there, and take any text.

    Where one was closed at the start, a socket or a file would get its number, and receive what is
    written to it. What a stream's encoding doesn't have is written as an escape.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
