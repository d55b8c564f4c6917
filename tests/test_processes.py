"""The processes that run the tests report each test, whatever becomes of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def outcome(folder: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    """Run these files of tests in two processes; return the exit code and the output."""
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text, encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-p", "tests.support.processes", "--processes=2", "-q"]
    done = subprocess.run(
        [*words, "-c", "none.ini", "--rootdir", ".", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # plugins cost more than the tests
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "none.ini").touch()
    return tmp_path


def test_each_test_is_reported_once(empty: Path) -> None:
    files = {f"good_{number}": "def test_it(): pass\ndef test_me(): pass" for number in range(7)}
    files["bad"] = "def test_it():\n    print('said')\n    assert 6 * 7 == 43"
    files["skipped"] = "import pytest\n@pytest.mark.skip\ndef test_it(): pass"
    files["fixture"] = (
        "import pytest\n@pytest.fixture\ndef it(): raise OSError('broken')\ndef test_it(it): pass"
    )
    code, text = outcome(empty, files)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "2 processes, 10 files" in text
    assert re.search(r"^1 failed, 14 passed, 1 skipped, 1 error in", text, re.MULTILINE), text
    assert "assert (6 * 7) == 43" in text
    assert "said" in text
    assert "OSError: broken" in text


def test_a_process_that_dies_is_a_failure_and_so_is_each_test_that_it_leaves(empty: Path) -> None:
    files = dict.fromkeys("bcdefg", "def test_it(): pass")
    files["a"] = "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGKILL)"
    files["a"] += "\ndef test_me(): pass"
    code, text = outcome(empty, files)
    assert code == pytest.ExitCode.TESTS_FAILED
    reason = r"process \d+ ended with code -9 while it ran test_a.py::test_it"
    assert re.search(f"^FAILED test_a.py::test_it - {reason}$", text, re.MULTILINE), text
    assert "FAILED test_a.py::test_me - its process ended before it ran" in text
    assert re.search(r"^2 failed, 6 passed in", text, re.MULTILINE), text


def test_nothing_is_lost_if_all_processes_die(empty: Path) -> None:
    killed = "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGKILL)"
    code, text = outcome(empty, dict.fromkeys("abcde", killed))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"^5 failed in", text, re.MULTILINE), text


def test_after_the_first_failure_no_process_takes_another_file(empty: Path) -> None:
    wait = "import time\ndef test_it():\n    time.sleep(0.2)"
    files = {f"good_{number}": wait for number in range(50)}
    code, text = outcome(empty, {"a_bad": "def test_it(): assert False", **files}, "-x")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"^1 failed, [1-9] passed in", text, re.MULTILINE), text
    assert "stopping after 1 failures" in text


def test_one_process_needs_no_other(empty: Path) -> None:
    code, text = outcome(empty, dict.fromkeys("ab", "def test_it(): pass"), "--processes=1")
    assert code == pytest.ExitCode.OK
    assert "processes" not in text
    assert re.search(r"^2 passed in", text, re.MULTILINE), text
