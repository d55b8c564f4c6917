"""The recipe for BERTopic in docs/embeddings.md runs: topics are the same in all batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.pages import blocks, run_block

PAGE = Path(__file__).parents[2] / "docs" / "embeddings.md"


def test_topics_of_bertopic_keep_their_numbers(tmp_path: Path) -> None:
    for module in ("bertopic", "hdbscan"):
        pytest.importorskip(module, reason=f"{module} isn't installed; see docs/embeddings.md")
    [recipe] = [each for each in blocks(PAGE) if "import BERTopic" in each.text]
    run_block(replace(recipe, reason=""), tmp_path)
