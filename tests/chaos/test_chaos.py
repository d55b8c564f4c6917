"""The small version of ``make chaos``.

Runs that fork their victims are a process of their own, which has one thread.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from tests.chaos.refits import story
from tests.chaos.shares import Shared
from tests.support.workspace import Workspace, environment, run_program

HERE = Path(__file__).parent
LIMIT = 300.0
"""Seconds that a run may take on a busy machine."""


def test_thirty_kills_change_no_byte(tmp_path: Path) -> None:
    done = chaos(tmp_path, "__main__", "--kills", "30", "--seed", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["kills"] >= 30
    assert result["differences"] == []
    assert result["points"] > 4000
    for phases in result["phases"].values():
        assert sum(phases.values()) == result["kills"]
        assert all(phases.values()), phases


def test_a_hung_thread_and_a_parked_model_harm_nobody_else(tmp_path: Path) -> None:
    done = chaos(tmp_path, "stories", "--times", "1", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_workers_that_share_models_learn_each_point_once(workspace: Workspace) -> None:
    shared = Shared(workspace, models=24, workers=3, rng=random.Random(2))  # noqa: S311
    assert shared.run(4.0) == []
    assert sum(shared.fed.values()) > 0


def test_refits_and_rollbacks_under_kills_count_each_point_once(
    tmp_path: Path, valkey_url: str
) -> None:
    wrong, counts = story(tmp_path / "story", valkey_url, seed=4, kills=3)
    assert wrong == []
    assert counts["versions"] > 3


def chaos(folder: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this package as a program."""
    return run_program(folder, HERE / f"{name}.py", environment(), LIMIT, *options)
