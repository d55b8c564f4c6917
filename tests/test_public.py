"""The public names of the package, their short representations, and names that have changed."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamclust
from streamclust import (
    Drift,
    Forgetting,
    GaussianMixture,
    Info,
    KMeans,
    Model,
    StreamLearner,
    fit,
    quantize,
)

X = np.random.default_rng(0).normal(size=(300, 4))


def imported_for_types() -> dict[str, str]:
    """Return name -> module of the imports under TYPE_CHECKING."""
    tree = ast.parse(Path(str(streamclust.__file__)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_type_checkers_and_python_see_the_same_names() -> None:
    assert imported_for_types() == streamclust._MODULE_OF


@pytest.mark.parametrize("name", streamclust.__all__)
def test_each_public_name_exists(name: str) -> None:
    assert getattr(streamclust, name) is not None


def a_model(family: Any) -> Model:
    run = fit(family, X)
    mass, position = run.stats.weight, {"points": "1-0"}
    return Model("m", 3, "step", family, run.params, mass, position, 300, 1.25, None)


@pytest.mark.parametrize("family", [KMeans(20), GaussianMixture(3)])
def test_a_notebook_cell_shows_a_few_lines(family: Any) -> None:
    run, learner = fit(family, X), StreamLearner(family, warm_up=100)
    state, info = learner.update(learner.init(), X)
    things = [family, run, run.params, run.stats, learner, state, info, a_model(family)]
    for thing in [*things, quantize(family, run.params, X), Forgetting()]:
        assert len(repr(thing)) <= 400, thing
        assert "\n" not in repr(thing)
        assert str(thing) == repr(thing) or isinstance(thing, Model)


@pytest.mark.parametrize("family", [KMeans(20), GaussianMixture(1)])
@pytest.mark.parametrize("features", [(), ("temperature", "x" * 100, "\x1b[31m", "a\nb")])
def test_a_model_prints_five_lines(family: Any, features: tuple[str, ...]) -> None:
    lines = str(replace(a_model(family), features=features)).split("\n")
    assert len(lines) == 5
    assert all(line.isprintable() and len(line) <= 160 for line in lines)
    young = replace(a_model(family), loss=None, time_ms=1e300, published_ms=10**18)
    assert len(str(young).split("\n")) == 5


def test_a_model_prints_its_score_and_shares() -> None:
    model = replace(a_model(KMeans(2)), published_ms=0, features=("a", "b", "c", "d"))
    shares = (model.mass / 300).tolist()
    first, second, *others = str(model).split("\n")
    assert first == "m, version 3 (kmeans, reason: step)"
    assert second.startswith("published 19")
    assert second.endswith("; newest point -")
    assert others == [
        "300 points learned; inertia 1.25 per point (lower is better)",
        "4 features: a, b, c, d",
        f"2 components, shares {shares[0]:.1%}, {shares[1]:.1%}",
    ]


def test_parts_of_states_and_what_users_make_have_short_representations() -> None:
    learner = StreamLearner(KMeans(400), warm_up=2000)
    young, _ = learner.update(learner.init(), np.random.default_rng(0).normal(size=(1500, 2)))
    assert repr(young) == "LearnerState(phase='warming', points=1500)"
    assert repr(young.warm_up) == "WarmUp(points=1500, gathering=False)"
    state, _ = learner.update(young, np.random.default_rng(1).normal(size=(1500, 2)))
    state, _ = learner.update(state, np.random.default_rng(2).normal(size=(1500, 2)))
    assert repr(state.components).startswith("Components(K=400, next_id=0, peak_total=")
    numbers = np.arange(140)
    version_map = streamclust.VersionMap(numbers, numbers, np.full(140, 1 / 140))
    assert repr(version_map) == "VersionMap(pairs=140, moved=0)"
    given: Any = [[1.0, 2.0]]
    assert repr(streamclust.KMeansParams(given)) == "KMeansParams(K=1, D=2)"
    assert repr(streamclust.MixtureParams(given, given, given, "diag")).startswith("MixtureParams(")
    assert repr(streamclust.Codes([0, 1], [1.0, 2.0])) == (  # type: ignore[arg-type]
        "Codes(points=2, used=2, mean_distance=1.5)"
    )


def test_options_have_no_place_of_their_own() -> None:
    calls: list[Any] = [
        lambda: StreamLearner(KMeans(2), Forgetting(), 50),  # type: ignore[call-arg]
        lambda: GaussianMixture(2, "full", 1e-6),  # type: ignore[call-arg]
        lambda: Drift("adwin", "forget"),  # type: ignore[call-arg]
        lambda: quantize(KMeans(2), None, X, 2),  # type: ignore[call-arg]
    ]
    for call in calls:
        with pytest.raises(TypeError, match="positional"):
            call()


def test_a_short_info_has_only_news() -> None:
    assert repr(Info("warming", 5)) == "Info(phase='warming', points=5)"
    assert repr(Info("learning", 0, loss=0.0, died=(1,))) == (
        "Info(phase='learning', points=0, loss=0, died=(1,))"
    )


def test_results_show_their_size_and_loss() -> None:
    run = fit(KMeans(2), [[0.0], [1.0], [10.0], [11.0]])
    params = "KMeansParams(K=2, D=1)"
    iterations = len(run.history) - 1
    assert repr(run.params) == params
    assert repr(run) == (
        f"EMResult(params={params}, loss=0.25, iterations={iterations}, converged=True)"
    )
    assert repr(a_model(KMeans(2))) == (
        "Model(name='m', version=3, kind='kmeans', K=2, D=4, points=300, inertia=1.25, "
        "reason='step')"
    )


RENAMED = [
    (
        "fewest is now called min_clusters",
        lambda: replace(KMeans(5, min_clusters=2), fewest=3),  # type: ignore[call-arg]
        KMeans(5, min_clusters=3),
    ),
    ("fewest is now called min_clusters", lambda: KMeans(5, fewest=2), KMeans(5, min_clusters=2)),  # type: ignore[call-arg]
    (
        "fewest is now called min_components",
        lambda: GaussianMixture(5, fewest=2),  # type: ignore[call-arg]
        GaussianMixture(5, min_components=2),
    ),
    (
        "restarts is now called n_init",
        lambda: fit(KMeans(2), X, restarts=2).loss,  # type: ignore[call-arg]
        fit(KMeans(2), X, n_init=2).loss,
    ),
    (
        "fade is now called reassignment_ratio",
        lambda: StreamLearner(KMeans(2), fade=0.2),  # type: ignore[call-arg]
        StreamLearner(KMeans(2), reassignment_ratio=0.2),
    ),
    (
        "score_points is now called score_samples",
        lambda: a_model(KMeans(1)).score_points(X).sum(),
        a_model(KMeans(1)).score_samples(X).sum(),
    ),
    (
        "drift_from is now called displacement_from",
        lambda: a_model(KMeans(1)).drift_from(a_model(KMeans(1))).sum(),
        0.0,
    ),
    (
        "on_drift='resolve' is now called 'recluster'",
        lambda: Drift(on_drift="resolve"),
        Drift(on_drift="recluster"),
    ),
    (
        "resolved is now called reclustered",
        lambda: Info("learning", 5, reclustered=True).resolved,
        True,
    ),
    (
        "resolved is now called reclustered",
        lambda: Info("learning", 5, resolved=True),  # type: ignore[call-arg]
        Info("learning", 5, reclustered=True),
    ),
]


@pytest.mark.parametrize(("warning", "old", "new"), RENAMED)
def test_old_names_work_with_a_warning_that_names_the_new_one(
    warning: str, old: Any, new: Any
) -> None:
    with pytest.warns(DeprecationWarning, match=warning):
        assert old() == new


@pytest.mark.parametrize("name", ["sklearn", "river"])
def test_estimators_take_old_names_too(name: str) -> None:
    module: Any = pytest.importorskip(f"streamclust.{name}")
    with pytest.warns(DeprecationWarning, match="fade is now called reassignment_ratio"):
        made = module.StreamingKMeans(3, fade=0.2)
    assert made.reassignment_ratio == 0.2


def test_the_package_itself_imports_next_to_nothing() -> None:
    """Ctrl-C during these imports ends the command line with a traceback: no code of it runs."""
    code = (
        "import sys; before = set(sys.modules); import streamclust; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"__future__", "streamclust", "streamclust.version"}
