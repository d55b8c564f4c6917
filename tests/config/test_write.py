"""The commented settings file: valid as it is and with each example in use; keys are explained."""

from __future__ import annotations

import re

import pytest
import yaml

from streamclust.config.load import parse_settings
from streamclust.config.model import KMeansSettings
from streamclust.config.write import starter_file
from streamclust.errors import ConfigError

KINDS = [("kmeans", "n_clusters"), ("gaussian_mixture", "n_components")]


def model(kind: str = "kmeans", **more: object) -> dict[str, object]:
    return {"kind": kind, "n_components": "auto", "streams": ["points"], **more}


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_the_file_has_the_chosen_settings_only(kind: str, size: str) -> None:
    text = starter_file("machines", model(kind, scale="standard"), url="redis://host:6379/0")
    assert yaml.safe_load(text) == {
        "redis": {"url": "redis://host:6379/0"},
        "models": {
            "machines": {"kind": kind, size: "auto", "streams": ["points"], "scale": "standard"}
        },
    }


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_each_example_is_valid_without_its_mark(kind: str, size: str) -> None:
    text = re.sub(r"^( *)#(?! )", r"\1", starter_file("machines", model(kind)), flags=re.MULTILINE)
    text = re.sub(r"^( *)#( +\w+: )", r"\1\2", text, flags=re.MULTILINE)
    found = parse_settings(text).models["machines"]
    assert found.points.features == ("temperature", "load")
    assert found.forgetting.kind == "points"
    assert found.trim.kind == "age"
    assert found.drift.detector == "page_hinkley"
    assert found.encode.worker
    assert getattr(found, f"{size}_range") == (2, 50)


def test_each_key_has_its_meaning_and_its_note_above() -> None:
    text = starter_file("machines", model(n_components=7), {"n_components": "Lowest BIC of 2..12."})
    comment = re.search(r"((?:^ +# .*\n)+) +n_clusters: 7\n", text, re.MULTILINE)
    assert comment is not None
    words = " ".join(line.strip(" #") for line in comment[1].splitlines())
    meaning = KMeansSettings.model_fields["n_clusters"].description
    assert words == f"{meaning} Lowest BIC of 2..12."


def test_names_that_yaml_would_read_as_numbers_are_quoted() -> None:
    names = ["1", "no", "a: b", "#c", "µ"]
    text = starter_file("2", model(streams=["3"], points={"features": names}))
    found = parse_settings(text).models["2"]
    assert (found.streams, found.points.features) == (("3",), tuple(names))


def test_wrong_settings_are_refused_by_their_names() -> None:
    with pytest.raises(ConfigError, match="features has 'a' twice"):
        starter_file("machines", model(points={"features": ["a", "a"]}))


def test_lines_fit_a_terminal() -> None:
    assert max(map(len, starter_file("machines", model()).splitlines())) <= 80
