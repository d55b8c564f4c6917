"""Runs the fenced blocks of a page of documentation, each by the rules of its language.

The language of a block decides how it runs:

* `sh`: shell commands, which must succeed.
* `console`: commands after "$ ", and their output on both streams. Output is compared without the
  values of numbers, and without the width of spaces; a line `...` stands for any lines.
* `python`: a program, which must end without an exception.
* `yaml`: settings, or a part of the settings of one model; they must be valid.
* `json`: one document per line.
* `js`: a program for node, if it is installed.
* `text`: isn't run.

A block whose fence reads "sh not run: REASON" isn't run either.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streamclust.config import Settings
from tests.support.forked import WITHOUT
from tests.support.shell import forked_streamclust
from tests.support.workspace import environment, run_command, run_program

LANGUAGES = ("sh", "console", "python", "yaml", "json", "js", "text")
LIMIT = 240.0
"""Seconds that a block may take on a busy machine."""

_FENCE = re.compile(r"^```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
_SHELL = re.compile(r"[|<>;&$(){}*?~`!]")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `reason` says why it isn't run."""

    page: Path
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page; a block without a language or reason is an error."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        words, _, reason = found["info"].strip().partition("not run:")
        assert found["language"] in LANGUAGES, f"{page}:{line}: language {found['language']!r}"
        assert not words, f"{page}:{line}: {words!r}; expected `not run: REASON`"
        yield Block(page, line, found["language"], found["text"], reason.strip())
    assert text.count("\n```") % 2 == text.startswith("```"), f"{page}: a fence isn't closed"


def run_block(block: Block, folder: Path, without: Sequence[str] = ()) -> None:
    """Run a block in a folder, and check its result.

    `without` names modules that can't be imported, such as those of extras that the page doesn't
    name. Commands of streamclust and programs in Python are forked from a process that has imported
    streamclust, which takes less time than a start of Python.
    """
    if block.language == "text" or block.reason:
        return
    runner = {
        "sh": _run_shell,
        "console": _run_console,
        "python": _run_python,
        "yaml": _check_settings,
        "json": _check_json,
        "js": _run_js,
    }[block.language]
    runner(block, _Shell(folder, without))


@dataclass(frozen=True)
class _Shell:
    folder: Path
    without: Sequence[str]

    def __call__(self, command: str) -> str:
        """Run a command; return its output, standard error first; raise if it fails."""
        plain = re.sub(r"'[^']*'|\"[^\"$`]*\"|#.*", "", command).strip()
        if _SHELL.search(plain) or not plain.startswith("streamclust "):
            return self.run(["bash", "-euo", "pipefail", "-c", command])
        words = shlex.split(command, comments=True)[1:]
        return _output(run_command(self.folder, words, self.forked, LIMIT), command)

    def python(self, text: str) -> str:
        """Run a Python program."""
        with tempfile.TemporaryDirectory() as name:
            file = Path(name, "program.py")
            file.write_text(text, encoding="utf-8")
            return _output(run_program(self.folder, file, self.forked, LIMIT), text)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return environment(COLUMNS="") | {"PATH": path}

    @property
    def forked(self) -> dict[str, str]:
        """Variables of a forked process."""
        return self.environment | {WITHOUT: " ".join(self.without)}

    def run(self, command: list[str]) -> str:
        """Run a program in a new process; a `streamclust` that it starts is forked."""
        with tempfile.TemporaryDirectory() as name, forked_streamclust() as programs:
            Path(name, "sitecustomize.py").write_text(_BLOCK.format(names=list(self.without)))
            path = f"{programs}{os.pathsep}{self.environment['PATH']}"
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.forked | {"PYTHONPATH": name, "PATH": path},
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        return _output(done, command[-1])


def _output(done: subprocess.CompletedProcess[str], command: str) -> str:
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stderr + done.stdout


_BLOCK = """\
import sys
for name in {names}:
    sys.modules[name] = None
"""


def _run_shell(block: Block, shell: _Shell) -> None:
    lines = block.text.replace("\\\n", " ").splitlines()
    alone = [line for line in lines if line.strip() and not line.startswith("#")]
    if all(line.startswith("streamclust ") for line in alone):
        for line in alone:
            shell(line)
    else:
        shell(block.text)


def _run_console(block: Block, shell: _Shell) -> None:
    first, *parts = re.split(r"^\$ ", block.text, flags=re.M)
    assert not first, f"{block}: expected a command after $"
    for part in parts:
        command, _, expected = part.partition("\n")
        found = shell(command)
        assert re.fullmatch(_pattern(expected), _plain(found)), f"{block}: {command}\n{found}"


def _plain(text: str) -> str:
    """Return the lines of a text without the values of numbers and the width of spaces.

    On a busy machine, a command may also name the server that it waits for.
    """
    read = (line for line in text.splitlines() if not line.startswith("waiting for an answer "))
    lines = (re.sub(r"\d[\d.,:]*\d|\d", "0", line) for line in read)
    bars = (re.sub(r"[▁▂▃▄▅▆▇█]+", "█", line) for line in lines)
    return "".join(" ".join(line.replace("-0", "0").split()) + "\n" for line in bars)


def _pattern(text: str) -> str:
    lines = _plain(text).splitlines(keepends=True)
    return "".join("(.*\n)*" if line == "...\n" else re.escape(line) for line in lines)


def _run_python(block: Block, shell: _Shell) -> None:
    shell.python(block.text)


def _run_js(block: Block, shell: _Shell) -> None:
    node = shutil.which("node")
    if node is not None:
        shell.run([node, "--check", "-"])


def _check_json(block: Block, _: _Shell) -> None:
    for line in block.text.splitlines():
        json.loads(line)


_MODEL = {"kind": "kmeans", "n_clusters": 3, "streams": "x"}


def _check_settings(block: Block, _: _Shell) -> None:
    """Check whole settings, or keys of a model, which needs no kind then."""
    read: dict[str, Any] = yaml.safe_load(block.text)
    found = {key: value for key, value in read.items() if not key.startswith("x-")}
    whole = set(found) <= set(Settings.model_fields)
    Settings.model_validate(found if whole else {"models": {"m": _MODEL | found}})
