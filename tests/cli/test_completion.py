"""``streamclust completion``: scripts that the shells can read, and what they complete."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.workspace import run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, "completion", shell)
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"_STREAMCLUST_COMPLETE={shell}_complete" in done.stdout


def test_bash_can_read_its_script(tmp_path: Path) -> None:
    script = run(tmp_path, "completion", "bash").stdout
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    defined = "complete -p streamclust"
    asked = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{defined}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_streamclust_completion" in asked.stdout


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    assert "plain,worker" in completed(tmp_path, "streamclust wo", 1)
    assert completed(tmp_path, "streamclust worker --unt", 2) == ["plain,--until-idle"]
    assert completed(tmp_path, "streamclust completion f", 2) == ["plain,fish"]


def completed(folder: Path, words: str, index: int) -> list[str]:
    asked = {"_STREAMCLUST_COMPLETE": "bash_complete", "COMP_CWORD": str(index)}
    done = run(folder, COMP_WORDS=words, **asked)
    assert done.stderr == ""
    return done.stdout.split()


def test_another_shell_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    done = run(tmp_path, "completion", "tcsh")
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
