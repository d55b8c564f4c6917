from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from streamclust.config import load_settings
from streamclust.demo.feeds import Picture, load_feeds, shuffled
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


def as_numbers(pixels: Picture) -> NDArray[np.uint32]:
    """Return each colour as one number."""
    return (pixels.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1], np.uint32)).astype(np.uint32)


def test_full_plan_feeds_every_point() -> None:
    plan = Plan()
    feeds = load_feeds(plan)
    for feed, picture in zip(feeds.pixels, feeds.pictures.values(), strict=True):
        assert len(feed.X) == plan.pixels
        sent = feed.X.astype(np.uint8)
        assert np.array_equal(sent, feed.X)
        assert np.array_equal(np.sort(as_numbers(sent)), np.sort(as_numbers(picture)))
    assert feeds.shuttle.X.shape == (plan.rows, 9)
    assert feeds.shuttle.features == tuple(f"f{d}" for d in range(1, 10))
