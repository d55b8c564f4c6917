from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from streamclust.config import load_settings
from streamclust.demo.feeds import load_feeds, shuffled
from streamclust.demo.plan import Plan, quick_plan


@pytest.mark.parametrize("plan", [Plan(), quick_plan(seed=3)], ids=["full", "quick"])
def test_settings_are_valid(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(plan.config()))
    settings = load_settings(file, environ={})
    assert {name: model.seed for name, model in settings.models.items()} == {
        "palette": plan.seed,
        "shuttle": plan.seed,
    }


@pytest.mark.parametrize("plan", [Plan(), quick_plan()], ids=["full", "quick"])
def test_both_feeds_take_the_same_time(plan: Plan) -> None:
    assert plan.rows / plan.row_rate == pytest.approx(2 * plan.pixels / plan.pixel_rate)


def test_order_depends_on_the_seed_alone() -> None:
    X = np.arange(50).reshape(25, 2)
    assert np.array_equal(shuffled(X, 1), shuffled(X, 1))
    assert not np.array_equal(shuffled(X, 1), shuffled(X, 2))
    assert np.array_equal(np.sort(shuffled(X, 1), axis=0), X)


def test_full_plan_feeds_every_point() -> None:
    plan = Plan()
    feeds = load_feeds(plan)
    for feed, picture in zip(feeds.pixels, feeds.pictures.values(), strict=True):
        colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        sent, sent_counts = np.unique(feed.X, axis=0, return_counts=True)
        assert len(feed.X) == plan.pixels
        assert np.array_equal(sent, colours)
        assert np.array_equal(sent_counts, counts)
    assert feeds.shuttle.X.shape == (plan.rows, 9)
    assert feeds.shuttle.features == tuple(f"f{d}" for d in range(1, 10))
