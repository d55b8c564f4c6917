"""The program for Spark in docs/migration.md runs: the centroids of Spark are ours."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.pages import blocks, run_block

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"


def test_spark_has_the_same_centroids(tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="Spark isn't installed: pip install '.[spark]'")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    [program] = [each for each in blocks(PAGE) if "StreamingKMeansModel(" in each.text]
    run_block(replace(program, reason=""), tmp_path)
