"""``streamclust``: the group of all commands, and the exit code of each error."""

from __future__ import annotations

import errno
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._render import discard, say
from streamclust.cli._terminal import prepare_streams, show_warnings_in_one_line
from streamclust.cli.exit_codes import (
    EXIT_CODES,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_SERVER,
    EXIT_USAGE,
)
from streamclust.errors import (
    ConfigError,
    EngineError,
    ModelsFailedError,
    ServerError,
    StoppedError,
    StreamclustError,
)
from streamclust.text import exact_json, printable
from streamclust.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "try": "Learn a model of a file: propose settings, learn, draw a picture.",
    "init": "Write a commented config.yaml.",
    "worker": "Learn models from streams and publish them.",
    "reload": "Let running workers and encoders read their settings again.",
    "encode": "Write the code of each point of a stream or file.",
    "decode": "Restore the points of a file that `encode` wrote, or fill missing values.",
    "ingest": "Send points from files or standard input to a stream.",
    "watch": "Follow the versions of a model as they are published.",
    "models": "List, compare and export versions; pause, delete or rename a model.",
    "refit": "Fit a model again to all stored points.",
    "dead": "Show, requeue or remove the points that a model refused.",
    "peek": "Show the newest points of a stream.",
    "codes": "Show the codes of a model.",
    "alerts": "Show the points that were flagged as anomalies, and why.",
    "score": "Print J, log-likelihood, AIC, BIC and silhouette.",
    "select": "Compare numbers of components on your points.",
    "status": "Show models, workers and unread entries.",
    "workers": "Show the live workers and how many models each one has.",
    "dashboard": "Show all models and how they move, on a page in the browser.",
    "metrics": "Print or serve the figures of `status` for Prometheus.",
    "demo": "Learn from two real feeds and draw the results.",
    "config": "Check, show and explain the settings.",
    "server": "Run, stop and inspect the embedded server.",
    "completion": "Print the completion script for your shell.",
}

_MODULES = {"try": "try_file"}
"""Modules and functions of commands whose name Python reserves."""


class _Commands(click.Group):
    """Imports a command only when it runs or shows its help, so that a start is fast."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0].lower(), _COMMANDS, n=1)
            if not near or "Did you mean" in error.message:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = _MODULES.get(name, name)
        command: click.Command = getattr(import_module(f"streamclust.cli.{module}"), module)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(f"{code:>3}", text) for code, text in EXIT_CODES.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamclustError as error:
            code = _exit_code(error)
            for line in str(error).split("\n"):
                self._report(line, code)
            ctx.exit(code)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except MemoryError:
            text = "out of memory; use less data or a machine with more memory"
            self._report(text, EXIT_ERROR)
            ctx.exit(EXIT_ERROR)

    def main(
        self,
        args: Sequence[str] | None = None,
        *rest: Any,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command. Wrong arguments are reported in the form of every other error."""
        run: Any = super().main
        words = list(sys.argv[1:] if args is None else args)
        options = words[: words.index("--")] if "--" in words else words
        self._reports_json = "--json" in options
        if not standalone_mode:
            return run(args, *rest, standalone_mode=False, **extra)
        try:
            code = run(args, *rest, standalone_mode=False, **extra)
        except click.Abort:  # Ctrl-C, or no answer to a question
            code = EXIT_INTERRUPTED if sys.stdin and sys.stdin.isatty() else EXIT_ERROR
            self._report("stopped before an answer", code)
        except click.ClickException as error:
            code = error.exit_code
            self._report_click(error)
        sys.exit(code or EXIT_OK)

    _reports_json = False
    """Whether the command has --json: its errors are JSON too."""

    def _report(self, message: str, code: int, usage: str = "") -> None:
        """Print an error, and the form of the command."""
        if self._reports_json:
            more = {"usage": usage} if usage else {}
            say(exact_json({"error": message, "exit_code": code, **more}))
            return
        say(f"error: {message}")
        if usage:
            say(f"usage: {usage}; --help explains it")

    def _report_click(self, error: click.ClickException) -> None:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            error.show()
            return
        usage = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            usage = " ".join(error.ctx.get_usage().removeprefix("Usage: ").split())
        message = printable(" ".join(error.format_message().split()))
        self._report(message, error.exit_code, usage)


def _exit_code(error: StreamclustError) -> int:
    if isinstance(error, ModelsFailedError):
        first = next(iter(error.failures.values()))
        return _exit_code(first) if isinstance(first, StreamclustError) else EXIT_ERROR
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    if isinstance(error, StoppedError):
        return EXIT_INTERRUPTED
    return EXIT_SERVER if isinstance(error, ServerError | EngineError) else EXIT_ERROR


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
    help="Show the version and the numerical kernels in use, and exit.",
)
def cli() -> None:
    """Cluster live feeds from Redis streams.

    A worker reads points from streams, learns K-means or a Gaussian mixture, and publishes
    versioned models. Other programs follow the models.

    \b
    Try streamclust:
      streamclust demo                               one minute, real data, pictures
      streamclust try points.csv                     your own file: settings, model, picture
    Use your own data (config.yaml describes the model `machines`):
      streamclust server run --detach                start the server of this folder
      streamclust ingest points.csv --stream points  fill a stream
      streamclust worker --until-idle                learn all entries and exit
      streamclust status                             show the result
    """


def main() -> None:
    """Run the command line."""
    try:
        prepare_streams()
        show_warnings_in_one_line()
        cli()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        sys.stderr.close()
        sys.exit(EXIT_ERROR)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or error.filename:
            raise
        cli._report(f"can't write the output: {error.strerror}", EXIT_ERROR)
        discard(sys.stdout)
        sys.exit(EXIT_ERROR)
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            discard(sys.stderr)
