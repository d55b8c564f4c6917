"""``streamclust`` itself: its commands, their help, and how it ends."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from streamclust import cli as cli_package
from streamclust import kernels
from streamclust.__main__ import main
from streamclust.cli import main as cli_main
from streamclust.cli.exit_codes import EXIT_CODES
from streamclust.cli.main import cli
from streamclust.version import __version__
from tests.support.forked import PipedCommand
from tests.support.workspace import STREAMCLUST, environment

COMMANDS = cli.list_commands(click.Context(cli))
HEAVY = ["dask", "numpy", "pyarrow", "pydantic", "redis", "rich", "river", "scipy", "structlog"]
ASK_ALL_FOR_HELP = """
import contextlib, io, json, sys
from streamclust.cli.main import cli

for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        cli([*arguments, "--help"], standalone_mode=False)
    assert "Usage" in text.getvalue()
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script that is installed."""
    return subprocess.run(
        [STREAMCLUST, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def paths(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something, as one types it."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from paths(found, (*path, name))


def test_help_lists_every_command(tmp_path: Path) -> None:
    for arguments in (["--help"], ["-h"]):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0
        listed = done.stdout.partition("\nCommands:\n")[2].partition("\n\n")[0]
        names = [line.split()[0] for line in listed.splitlines() if line[2] != " "]
        assert names == COMMANDS
    assert "Exit codes" in done.stdout


@pytest.mark.parametrize("path", list(paths(cli)), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    _, found, examples = done.stdout.partition("Example")
    assert found
    assert " ".join(("streamclust", *path)) in examples


def test_help_needs_nothing_heavy() -> None:
    asked = [[], *([name] for name in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL_FOR_HELP, json.dumps(asked), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []


def test_version(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (
        0,
        f"streamclust {__version__} (kernels: {kernels.describe()})\n",
    )


def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "streamclust", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"streamclust {__version__} ")


@pytest.mark.parametrize(
    ("arguments", "problem", "usage"),
    [
        (
            "wroker",
            "No such command 'wroker'. Did you mean 'worker'?",
            "streamclust [OPTIONS] COMMAND [ARGS]...",
        ),
        (
            "models lst",
            "No such command 'lst'. Did you mean 'list'?",
            "streamclust models [OPTIONS] COMMAND [ARGS]...",
        ),
        (
            "status --wacth",
            "No such option '--wacth'. Did you mean '--watch'?",
            "streamclust status [OPTIONS] [MODELS]...",
        ),
        ("refit", "Missing argument 'MODEL'.", "streamclust refit [OPTIONS] MODEL"),
    ],
)
def test_wrong_usage_has_the_form_of_every_error(arguments: str, problem: str, usage: str) -> None:
    done = CliRunner().invoke(cli, arguments.split(), prog_name="streamclust")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {problem}\nusage: {usage}; --help explains it\n"


@pytest.mark.parametrize("arguments", [["--help"], ["config", "reference"]], ids=" ".join)
def test_a_reader_that_leaves_early_is_no_fault(tmp_path: Path, arguments: list[str]) -> None:
    """As `streamclust ... | head -1` does."""
    with PipedCommand(
        arguments,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [STREAMCLUST, "config", "reference"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: can't write the output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_a_terminal_without_unicode_gets_ascii(tmp_path: Path, encoding: str) -> None:
    code = (
        "from streamclust.cli._terminal import prepare_streams; prepare_streams(); "
        "print('\u2588\u2581 \u2026 \u00e9 \u65e5')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment(), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    expected = {
        "utf-8": "\u2588\u2581 \u2026 \u00e9 \u65e5",
        "cp1252": "#_ \u2026 \u00e9 \\u65e5",
        "latin-1": "#_ ... \u00e9 \\u65e5",
        "ascii": "#_ ... \\xe9 \\u65e5",
    }
    assert done.stdout.decode(encoding) == expected[encoding] + "\n"


def test_commands_dont_import_commands() -> None:
    folder = Path(cli_package.__file__).parent
    commands = {f"streamclust.cli.{name}" for name in COMMANDS}
    imported = {
        f"{path.stem} imports {node.module}"
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in commands
    }
    assert not imported


def test_the_help_explains_every_exit_code() -> None:
    text = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for code, meaning in EXIT_CODES.items():
        assert f" {code} {meaning.split(':')[0].rstrip('.')}" in text


def test_the_page_has_every_command_and_exit_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for name in COMMANDS:
        text = cli_main._COMMANDS[name]
        assert f"| `{name}` | {text} |" in rows
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in rows


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", "-", "--stream", "s", "--rate", "nan"],
        ["encode", "m", "--peak", "nan"],
        ["refit", "m", "--tol", "nan"],
    ],
    ids=" ".join,
)
def test_no_option_takes_a_number_that_is_none(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}': 'nan' is not a number." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch", "m", "--timeout"],
        ["refit", "m", "--wait"],
        ["models", "rollback", "m", "1", "--wait"],
        ["models", "pause", "m", "--wait"],
        ["reload", "--timeout"],
        ["status", "--watch", "--interval"],
        ["alerts", "m", "--since"],
        ["worker", "--wait-for-server"],
    ],
    ids=" ".join,
)
def test_every_wait_is_a_duration_as_in_the_settings(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in ("nan", "-1", "5 minutes", "1e999"):
        refused = CliRunner().invoke(cli, [*arguments, wrong])
        assert refused.exit_code == 2
        assert f"got {wrong!r}; expected a duration (200ms, 10s, 5m, " in refused.stderr
    for right in ("30s", "1.5", "2m"):
        taken = CliRunner().invoke(cli, [*arguments, right, "--config", "nowhere.yaml"])
        assert "nowhere.yaml: the file doesn't exist" in taken.stderr


def test_the_errors_of_a_command_with_json_are_json() -> None:
    missing = CliRunner().invoke(cli, ["status", "--json", "--config", "nowhere.yaml"])
    wrong = CliRunner().invoke(cli, ["models", "show", "--json"])
    plain = CliRunner().invoke(cli, ["models", "show", "--", "--json"])
    error = json.loads(missing.stderr)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert error["exit_code"] == 2
    assert error["error"].startswith("nowhere.yaml: the file doesn't exist")
    assert json.loads(wrong.stderr)["usage"].endswith("models show [OPTIONS] MODEL [VERSION]")
    assert plain.stderr.startswith("error: ")


def test_ctrl_c_ends_each_command_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streamclust.config.load_settings", interrupted)
    for command in (["status"], ["worker"], ["models", "list", "m"]):
        result = CliRunner().invoke(cli, command)
        assert (result.exit_code, result.output) == (130, "")


@pytest.fixture
def own_handler() -> Iterator[None]:
    """The handler of Ctrl-C, which the start of the command line replaces, restored at the end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.usefixtures("own_handler")
def test_ctrl_c_during_the_imports_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name != "streamclust.cli.main":
                return
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                if wrapped:  # as pydantic does
                    raise ValueError("KeyboardInterrupt") from None
                raise

    monkeypatch.delitem(sys.modules, "streamclust.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
