"""Files, variables and flags that hold anything: settings, or an error that says where."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from streamclust.config import load_settings
from streamclust.errors import ConfigError
from tests.fuzz.mutate import damage

_TEXT = """\
namespace: shop
redis: {url: "redis://localhost:6379", password_file: secret}
worker:
  lease: 10s
log: {level: debug}
defaults:
  n_clusters: 4
  forgetting: {half_life: 1d}
x-small: &small {seed: 3}
models:
  palette: &base
    kind: kmeans
    n_clusters: 3
    streams: [a, b]
    forgetting: {kind: points, half_life: 2e5}
    init: {kind: parameters, centroids: [[0, 0], [1, 1], [2.5, -1e-3]]}
  engine:
    kind: gaussian_mixture
    n_components: 2
    covariance_type: full
    streams: telemetry
    points: {format: json, features: [x, y], weight_field: w}
    batch: {size: 100, linger: 50ms}
    publish: {points: 1000, every: 90m}
  clicks-{tenant}:
    <<: *small
    kind: kmeans
    streams: ["clicks:{tenant}", "{{{tenant}}}:views"]
    encode: {streams: ["queries:{tenant}"]}
    max_models: 7
    overrides:
      acme: {n_clusters: 32, init: {points: 90}}
      BTC/USD: {batch: {size: 5}}
"""
_WORDS = (
    *("&a", "*base", "<<: *base", "!!python/object:os.system", "!x y", "? [1]", "- ", ": ", "---"),
    *("{", "}", "[", "]", "'", '"', "|", ">", "#", "%", "@", "\t", "\n", "  ", "null", "~", "yes"),
    *("0x1F", "1_000", "1e999", ".nan", "-.inf", "12:30", "2001-01-01", "9" * 5000, "[" * 1000),
    *("{a: " * 300, "é", "\U0001f600", "\x85", "\ufeff", "kind: kmeans", "models: 3", "seed: -1"),
    *("10 s", "-1s", "1e9h", "99999999999d", "0", "-0.0", "1e-400", "a" * 3000),
    "b: &b [*c,*c]\nc: &c [*b,*b]",
)
_VARIABLES = (
    *("STREAMCLUST_LOG__LEVEL", "STREAMCLUST_MODELS", "STREAMCLUST_MODELS__PALETTE__N_CLUSTERS"),
    *("STREAMCLUST_MODELS__ENGINE__INIT", "STREAMCLUST_REDIS", "STREAMCLUST_X__", "STREAMCLUST_"),
)
_PATHS = ("log.level", "models.palette.init", "models.engine.batch.size", "models", "..", "", "a.b")


def fuzz_settings(count: int, seed: int, folder: Path) -> Iterator[dict[str, int]]:
    """Try so many; yield how many were valid, and how many refused.

    Raises
    ------
    AssertionError
        With the seed and number of the one that went wrong.
    """
    tally = {"settings": 0, "valid": 0, "refused": 0}
    path = folder / "config.yaml"
    for number in range(count):
        rng = random.Random(f"{seed} settings {number}")  # noqa: S311
        try:
            tally[_try(path, rng)] += 1
        except Exception as error:
            raise AssertionError(f"settings, seed {seed}, number {number}: {error!r}") from error
        tally["settings"] += 1
        yield tally


def _try(path: Path, rng: random.Random) -> str:
    path.write_bytes(_file(rng))
    flags = [f"{rng.choice(_PATHS)}={rng.choice(_WORDS)}" for _ in range(rng.choice((0, 0, 1)))]
    environ = {rng.choice(_VARIABLES): rng.choice(_WORDS) for _ in range(rng.choice((0, 0, 1)))}
    try:
        load_settings(path, flags, environ)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.strip() for line in lines)
        assert max(map(len, lines)) < 2000, "an error too long to be read"
        return "refused"
    return "valid"


def _file(rng: random.Random) -> bytes:
    lines = _TEXT.splitlines(keepends=True)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        _edit(lines, rng)
    data = "".join(lines).encode()
    return damage(data, rng) if rng.random() < 0.3 else data


def _edit(lines: list[str], rng: random.Random) -> None:
    """Change one line as a person might, or as no person would."""
    at = rng.randrange(len(lines))
    way = rng.randrange(5)
    if way == 0 and len(lines) > 1:
        del lines[at]
    elif way == 1:
        lines.insert(at, rng.choice(lines))
    elif way == 2:
        lines[at] = " " * rng.randrange(9) + lines[at].lstrip()
    elif way == 3:
        name, _, _ = lines[at].partition(":")
        lines[at] = f"{name}: {rng.choice(_WORDS)}\n"
    else:
        column = rng.randrange(len(lines[at]))
        lines[at] = lines[at][:column] + rng.choice(_WORDS) + lines[at][column:]
