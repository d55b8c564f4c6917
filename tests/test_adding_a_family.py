"""A third family: each table has an entry per family, and an unknown kind is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, get_args

import numpy as np
import pytest

from streamclust.cli._options import FAMILY_KINDS
from streamclust.config.model import ModelSettings
from streamclust.config.write import starter_file
from streamclust.engine.identity import KERNELS, kernels_of
from streamclust.errors import DataError
from streamclust.fitting.search import SEARCHES, search_of
from streamclust.formats.code_fields import TOP_VALUES
from streamclust.formats.export import SKLEARN, to_sklearn
from streamclust.formats.model import family_of
from streamclust.models import FAMILIES
from streamclust.models.family import size_name
from streamclust.models.kmeans import KMeansParams
from streamclust.models.quantize import RANKINGS, quantize
from streamclust.models.scores import RAW_SCORES, raw_scores
from streamclust.quickstart.size import TRIALS, propose_size
from streamclust.refit.data import gather
from streamclust.refit.scoring import LIKELIHOODS, score
from streamclust.runtime.assemble import MAKERS, make_family
from tests.support.datasets import Table


@dataclass(frozen=True)
class Poisson:
    """A family that no table knows."""

    kind: ClassVar[str] = "poisson"
    n_components: int = 1
    fewest: int | None = None


PARAMS = KMeansParams(np.zeros((2, 1)))


@pytest.mark.parametrize(
    "table",
    [KERNELS, LIKELIHOODS, MAKERS, RANKINGS, RAW_SCORES, SEARCHES, SKLEARN, TOP_VALUES, TRIALS],
)
def test_each_table_has_an_entry_per_family(table: Mapping[str, Any]) -> None:
    assert set(table) == set(FAMILIES)


def test_the_settings_have_a_section_per_family_with_the_same_name_of_k() -> None:
    union, _ = get_args(ModelSettings)
    sections = {each.model_fields["kind"].default: each for each in get_args(union)}
    assert set(sections) == set(FAMILIES)
    for kind, section in sections.items():
        assert size_name(FAMILIES[kind]) in section.model_fields


def test_init_and_try_offer_each_family() -> None:
    assert set(FAMILY_KINDS) == set(FAMILIES)
    for kind in FAMILY_KINDS:
        text = starter_file("m", {"kind": kind, "n_components": 3, "streams": ["s"]})
        assert f"kind: {kind}\n" in text


CALLS: dict[str, Callable[[], Any]] = {
    "make_family": lambda: make_family(SimpleNamespace(kind="poisson")),  # type: ignore[arg-type]
    "search_of": lambda: search_of(Poisson()),  # type: ignore[arg-type]
    "kernels_of": lambda: kernels_of(Poisson()),  # type: ignore[arg-type]
    "raw_scores": lambda: raw_scores(Poisson(), PARAMS, np.zeros((3, 1))),  # type: ignore[arg-type]
    "quantize": lambda: quantize(Poisson(), PARAMS, [[1.0]], top=2),  # type: ignore[arg-type]
    "score": lambda: score(Poisson(), PARAMS, gather(Table(np.zeros((3, 1)), np.ones(3)), 0)),  # type: ignore[arg-type]
    "to_sklearn": lambda: to_sklearn(SimpleNamespace(kind="poisson"), None),  # type: ignore[arg-type]
    "starter_file": lambda: starter_file("m", {"kind": "poisson"}),
    "propose_size": lambda: propose_size(np.zeros((9, 1)), "poisson", "none"),
    "family_of": lambda: family_of({"kind": "poisson"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_kind_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match="kind 'poisson'"):
        CALLS[name]()
