"""K that adapts: the number of clusters found, on streams of known truth that change or don't.

    python benchmarks/adapting.py [--seeds 3]     writes docs/adapting.md

The streams that change are those of benchmarks/drift.py, for one half-life longer. Those that don't
have K round clusters in D dimensions, of unequal weight and width, with centres at least six
standard deviations apart; 20,000 points in one pass, without forgetting.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from drift import BATCH, CHANGE, END, HALF_LIFE, STREAMS, WARM_UP
from page import table

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner
from streamclust.online.drift import Drift

DOCS = Path(__file__).parent.parent / "docs"
LOOKS = [CHANGE, CHANGE + HALF_LIFE // 2, END, END + HALF_LIFE]
TRUTH = {"a cluster appears": "5, then 6", "a cluster disappears": "6, then 5"}
POLICIES = {"half-life alone": None, "forget": Drift(on_drift="forget")}
SIZES = [(K, D) for D in (2, 4, 16) for K in (3, 10, 30, 50)]


def families(D: int) -> dict[str, Any]:
    """Return what learns; a full covariance in 16 dimensions takes more points than there are."""
    shape: Any = "full" if D < 16 else "diag"
    return {
        "K-means": KMeans(60, min_clusters=2),
        "mixture": GaussianMixture(60, shape, min_components=2),
    }


def changing(name: str, policy: str, seed: int) -> tuple[list[int], int]:
    """Return K at each look, and how many first components are still there at the end."""
    rng = np.random.default_rng((seed, list(STREAMS).index(name)))
    concept = STREAMS[name](rng)
    learner = StreamLearner(
        KMeans(50, min_clusters=2), HalfLife(HALF_LIFE), warm_up=WARM_UP, drift=POLICIES[policy]
    )
    state, found, early = learner.init(), [], set()
    for t in range(0, END + HALF_LIFE, BATCH):
        state, _ = learner.update(state, concept(t).draw(BATCH, rng))
        if t + BATCH == HALF_LIFE:
            early = set(state.ids.tolist())
        if t + BATCH in LOOKS:
            found.append(len(state.ids))
    return found, len(early & set(state.ids.tolist()))


def places(K: int, D: int, rng: np.random.Generator) -> Any:
    found: Any = np.empty((0, D))
    reach = 6.0
    while len(found) < K:
        place = rng.uniform(-reach, reach, size=D)
        if not len(found) or np.linalg.norm(found - place, axis=1).min() > 6.0:
            found = np.vstack([found, place])
        reach *= 1.002
    return found


def steady(K: int, D: int, kind: str, seed: int) -> int:
    """Return the K that is found."""
    rng = np.random.default_rng((seed, K, D))
    means, share = places(K, D, rng), rng.uniform(0.5, 1.5, K)
    deviations = rng.uniform(0.7, 1.0, K)
    learner: Any = StreamLearner(families(D)[kind])
    state = learner.init()
    for _ in range(20):
        owners = rng.choice(K, size=1000, p=share / share.sum())
        X = means[owners] + deviations[owners, None] * rng.normal(size=(1000, D))
        state, _ = learner.update(state, X)
    return len(state.ids)


PAGE = """\
# K that adapts to the stream

<!-- Written by benchmarks/adapting.py. Change that file instead. -->

Set the number of components to `auto`, and the worker finds it. It adds, merges and removes
components while it learns:

```yaml
models:
  machines:
    kind: kmeans
    n_clusters: auto               # gaussian_mixture: n_components
    n_clusters_range: [2, 20]      # the default is [2, 50]
    streams: machines
    forgetting: {{kind: points, half_life: 5000}}   # without forgetting, no component is removed
```

A component keeps its number as long as it exists, and a new component gets a number that no
component had before. The worker logs `components_changed`, and publishes a version with the reason
`resize`. [internals/components.md](internals/components.md#k-that-adapts) explains how K is
chosen. The figures below are from one run of `python benchmarks/adapting.py` (part of `make
quality`).

## Streams that change

The streams are those of [drift.md](drift.md), with one more half-life at the end. The half-life is
{half_life:,} points, a batch has {batch} points, and the stream changes after {change:,} points.
K-means may use K from 2 to 50. The true K is 6 unless the table says otherwise. The columns show
the K that was found with {seeds} seeds: just before the change, and half a half-life, one
half-life and two half-lives after it. The last column counts the components of the first
{half_life:,} points that still exist at the end, under the same number.

{changing}

`forget` is the setting `on_drift: forget` with the detector `page_hinkley`. With the half-life
alone, the old clusters of a jump get no more points and die after about two thirds of a half-life.
Until then K counts the old and the new clusters.

Two weaknesses are visible. While a stream rotates, the remembered points of each cluster form an
arc, and more round clusters than the true number fit an arc better. Concepts that alternate faster
than they are forgotten are all present at once.

## Streams that do not change

The data are K round clusters in D dimensions. The centres are at least six standard deviations
apart; the weights (1 to 3) and the widths (0.7 to 1) differ. One pass over 20,000 points, K from 2
to 60, {seeds} seeds. Mixtures have full covariances, except in 16 dimensions, where they are
diagonal: a full covariance would have 153 parameters per component there. That is about the number
of points that each of 50 clusters has in the coreset, so BIC would choose fewer components.

{steady}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    with ProcessPoolExecutor(2) as pool:
        first = {
            (name, policy): [pool.submit(changing, name, policy, seed) for seed in seeds]
            for name in STREAMS
            for policy in POLICIES
        }
        second = {
            (K, D, kind): [pool.submit(steady, K, D, kind, seed) for seed in seeds]
            for K, D in SIZES
            for kind in families(D)
        }
        rows = [
            changing_row(key, [task.result() for task in tasks]) for key, tasks in first.items()
        ]
        more = [steady_row(K, D, second) for K, D in SIZES]
    heads = ["stream", "true K", "policy", "before", "+ 1/2", "+ 1", "+ 2", "still there"]
    text = PAGE.format(
        seeds=len(seeds),
        half_life=HALF_LIFE,
        batch=BATCH,
        change=CHANGE,
        changing=table(heads, rows),
        steady=table(["true K", "D", "K-means", "mixture"], more),
    )
    (DOCS / "adapting.md").write_text(text, encoding="utf-8")


def changing_row(key: tuple[str, str], found: list[tuple[list[int], int]]) -> list[str]:
    name, policy = key
    looks = [", ".join(str(K[look]) for K, _ in found) for look in range(len(LOOKS))]
    kept = ", ".join(str(count) for _, count in found)
    row = [name, TRUTH.get(name, "6"), policy, *looks, kept]
    print(*row, sep=" | ", flush=True)
    return row


def steady_row(K: int, D: int, tasks: dict[tuple[int, int, str], Any]) -> list[str]:
    found = [", ".join(str(t.result()) for t in tasks[K, D, kind]) for kind in families(D)]
    row = [str(K), str(D), *found]
    print(*row, sep=" | ", flush=True)
    return row


if __name__ == "__main__":
    main()
