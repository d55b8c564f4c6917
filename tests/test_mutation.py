"""The program that changes a module: tests pass without a change, and notice one."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from tests import mutation

mutation._import_libraries()
module, tests = Path("streamclust/number_text.py"), ["tests/test_number_text.py"]
source = module.read_text(encoding="utf-8")
for text in (source, source.replace("send float(x)", "send text")):
    print(mutation.outcome(lambda: mutation.tests_of_changed(module, text, tests), 60.0))
"""


def test_a_module_is_tested_with_a_change_and_without() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["survived", "noticed"]
