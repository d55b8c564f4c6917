"""Commands within the test's process, and a metrics server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from click.testing import CliRunner, Result

from streamclust.cli.main import cli
from tests.support.forked import PipedCommand
from tests.support.workspace import Workspace, environment


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def shown(workspace: Workspace, *arguments: str, answer: str | None = None) -> Result:
    """Return what a command shows with the settings of a workspace; `answer` is its input."""
    config = ("--config", str(workspace.folder / "config.yaml"))
    return CliRunner().invoke(cli, [*arguments, *config], input=answer, catch_exceptions=False)


def run_here(workspace: Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end within the test's process, with the result of one of its own."""
    done = shown(workspace, *words)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


@contextmanager
def served(workspace: Workspace) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve on a free port; give the address."""
    process = PipedCommand(
        ["metrics", "--port", "0"],
        cwd=workspace.folder,
        env=environment(),
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().strip(), process
        finally:
            process.kill()
