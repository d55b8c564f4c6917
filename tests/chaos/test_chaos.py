"""The small version of ``make chaos``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.worker.harness import environment

ROOT = Path(__file__).parents[2]


def test_thirty_kills_change_no_byte() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--kills", "30", "--seed", "1", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["kills"] >= 30
    assert result["differences"] == []
    assert result["points"] > 5000
    for phases in result["phases"].values():
        assert sum(phases.values()) == result["kills"]
        assert all(phases.values()), phases


def test_refits_and_rollbacks_under_kills_count_each_point_once() -> None:
    command = [sys.executable, "-m", "tests.chaos.refits", "--kills", "3", "--seed", "4"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "that of a single pass" in done.stdout
