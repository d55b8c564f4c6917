"""The small version of ``make chaos``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.workspace import environment

ROOT = Path(__file__).parents[2]


def test_twenty_kills_change_no_byte() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--kills", "20", "--seed", "1", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["kills"] >= 20
    assert result["differences"] == []
    assert result["points"] > 3000
    for phases in result["phases"].values():
        assert sum(phases.values()) == result["kills"]
        assert all(phases.values()), phases


def test_a_hung_thread_and_a_parked_model_harm_nobody_else() -> None:
    done = chaos("stories", "--times", "1", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_workers_that_share_models_learn_each_point_once() -> None:
    done = chaos("shares", "--seconds", "10", "--models", "24", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each learned once" in done.stdout


def test_refits_and_rollbacks_under_kills_count_each_point_once() -> None:
    done = chaos("refits", "--kills", "3", "--seed", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "that of a single pass" in done.stdout


def chaos(story: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"tests.chaos.{story}", *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
