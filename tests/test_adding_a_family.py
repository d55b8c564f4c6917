"""A third family: a narrow protocol, an entry in each table, and no code that asks for a class."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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
from streamclust.formats.export import FAISS, SKLEARN, to_faiss, to_sklearn
from streamclust.formats.model import family_of
from streamclust.formats.onnx import PIPELINES
from streamclust.models import FAMILIES, Family
from streamclust.models.attribution import ATTRIBUTIONS, attribution
from streamclust.models.family import size_name
from streamclust.models.imputation import CONDITIONALS, impute
from streamclust.models.kmeans import KMeansParams
from streamclust.models.quantize import RANKINGS, quantize
from streamclust.models.scores import RAW_SCORES, raw_scores
from streamclust.online.rules import RULES, rules_of
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
    min_components: int | None = None
    max_magnitude: float = 1e100


PACKAGE = Path(__file__).parents[1] / "streamclust"
PARAMS = KMeansParams(np.zeros((2, 1)))
TABLES: list[Mapping[str, Any]] = [
    *(ATTRIBUTIONS, CONDITIONALS, FAISS, KERNELS, LIKELIHOODS, MAKERS, PIPELINES, RANKINGS),
    *(RAW_SCORES, RULES, SEARCHES, SKLEARN, TOP_VALUES, TRIALS),
]


def test_a_family_has_few_verbs() -> None:
    public = [name for name in vars(Family) if not name.startswith("_")]
    assert len([name for name in public if callable(getattr(Family, name))]) <= 16


PARAMETERS = ("KMeansParams", "MixtureParams")
CLASSES = {"Family", *PARAMETERS, *(each.__name__ for each in FAMILIES.values())}


def questions(tree: ast.AST) -> Iterator[str]:
    """Yield each expression that asks for the class of a family or of its parameters."""
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked = node.args[1:]
        elif isinstance(node, ast.Compare) and any(
            isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq) for op in node.ops
        ):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        if any(isinstance(n, ast.Name) and n.id in CLASSES for each in asked for n in _types(each)):
            yield ast.unparse(node)


def _types(node: ast.expr) -> Iterator[ast.AST]:
    """Yield the names that stand for themselves: `KMeans`, not `KMeans.kind`."""
    inner = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    yield from (each for each in ast.walk(node) if id(each) not in inner)


def test_no_code_asks_for_the_class_of_a_family() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {question}"
        for path in PACKAGE.rglob("*.py")
        if "KMeans" in (text := path.read_text()) or "Mixture" in text or "Family" in text
        for question in questions(ast.parse(text))
    }
    assert not found


@pytest.mark.parametrize("folder", ["models", "fitting", "online"])
def test_the_types_of_families_need_no_exceptions(folder: str) -> None:
    files = list((PACKAGE / folder).glob("*.py"))
    assert files
    assert not [path.name for path in files if "type: ignore" in path.read_text()]


@pytest.mark.parametrize("table", TABLES)
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
    "rules_of": lambda: rules_of(Poisson()),  # type: ignore[arg-type]
    "attribution": lambda: attribution(Poisson(), PARAMS, np.zeros((3, 1)), np.zeros(3, int)),  # type: ignore[arg-type]
    "impute": lambda: impute(Poisson(), PARAMS, [[1.0]]),  # type: ignore[arg-type]
    "kernels_of": lambda: kernels_of(Poisson()),  # type: ignore[arg-type]
    "raw_scores": lambda: raw_scores(Poisson(), PARAMS, np.zeros((3, 1))),  # type: ignore[arg-type]
    "quantize": lambda: quantize(Poisson(), PARAMS, [[1.0]], top=2),  # type: ignore[arg-type]
    "score": lambda: score(Poisson(), PARAMS, gather(Table(np.zeros((3, 1)), np.ones(3)), 0)),  # type: ignore[arg-type]
    "to_sklearn": lambda: to_sklearn(SimpleNamespace(kind="poisson"), None),  # type: ignore[arg-type]
    "to_faiss": lambda: to_faiss(SimpleNamespace(kind="poisson"), None),  # type: ignore[arg-type]
    "starter_file": lambda: starter_file("m", {"kind": "poisson"}),
    "propose_size": lambda: propose_size(np.zeros((9, 1)), "poisson", "none"),
    "family_of": lambda: family_of({"kind": "poisson"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_kind_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match="kind 'poisson'"):
        CALLS[name]()
