"""docs/configuration.md is what the declared settings say, and all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, Field

from streamclust.config import ModelSettings, Settings
from streamclust.config.reference import groups, markdown
from streamclust.config.templates import Models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_what_the_settings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "the settings have changed; run: streamclust config reference > docs/configuration.md"
    )


def sections(annotation: object, around: tuple[object, ...] = ()) -> Iterator[type[BaseModel]]:
    """Yield every class of settings below a type, by another way than the reference goes."""
    if annotation in around:  # overrides hold settings of a model, and so does a model
        return
    if annotation is Models:
        yield from sections(ModelSettings, around)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation, (*around, annotation))
    for inner in get_args(annotation):
        yield from sections(inner, around)


SECTIONS = sorted(set(sections(Settings)), key=lambda section: section.__name__)


def undocumented(section: type[BaseModel]) -> list[str]:
    fields = section.model_fields.items()
    return [
        key for key, field in fields if not re.match(r"[A-Z`a-z.].*\.$", field.description or "")
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_description(section: type[BaseModel]) -> None:
    assert undocumented(section) == []


def test_a_setting_without_a_description_would_be_found() -> None:
    class Bad(BaseModel):
        good: int = Field(default=1, description="Good.")
        bare: int = 1

    assert undocumented(Bad) == ["bare"]


def test_every_setting_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    keys = {key for section in SECTIONS for key in section.model_fields}
    headings = set(re.findall(r"^## `.*?([a-z_]+)(?:\.<name>)?`$", text, re.MULTILINE))
    rows = set(re.findall(r"^\| `([a-z0-9_]+)`", text, re.MULTILINE))
    assert headings | rows == keys


def test_every_description_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for section in SECTIONS:
        for field in section.model_fields.values():
            assert field.description
            assert field.description in text


def test_keys_of_some_kinds_only_say_so() -> None:
    found = {
        (setting.path, setting.kinds): setting for group in groups() for setting in group.settings
    }
    forgetting = "models.<name>.forgetting"
    assert found[(f"{forgetting}.half_life", "points")].allowed == "a number > 0"
    assert found[(f"{forgetting}.half_life", "time")].allowed.startswith("a duration")
    assert found[(f"{forgetting}.kind", "")].default == "none"
    assert found[("models.<name>.kind", "")].default == "required"
    assert found[("models.<name>.n_clusters", "kmeans")].default == "required"
    assert found[("models.<name>.batch.linger", "")].default == "200ms"
    assert found[("models.<name>.reg_covar", "gaussian_mixture")].default == "1e-6"
    assert found[("models.<name>.points.features", "")].default == "[]"
    assert found[("redis.data_dir", "")].default == ".streamclust"
