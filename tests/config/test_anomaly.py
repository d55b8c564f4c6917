"""The settings of anomalies and of scores: what is refused, why, and how overrides change them."""

from __future__ import annotations

import pytest

from streamclust.config.load import parse_settings
from streamclust.config.model import ModelSettings
from streamclust.errors import ConfigError

KMEANS = "kind: kmeans, n_clusters: 2, streams: s"
MIXTURE = "kind: gaussian_mixture, n_components: 2, streams: s"
RATE = "the share of points to flag, such as 0.001 for 1 point in 1,000"


def model(settings: str) -> ModelSettings:
    return parse_settings(f"models: {{m: {{{settings}}}}}").models["m"]


@pytest.mark.parametrize(
    ("rate", "problem"),
    [
        ("0", f"got 0; a rate of 0 flags nothing; write null for no alerts, or {RATE}"),
        ("1", f"got 1; a rate of 1 flags all points; write {RATE}"),
        (".nan", f"got nan; expected more than 0 and less than 1: {RATE}"),
        ("-0.1", f"got -0.1; expected more than 0 and less than 1: {RATE}"),
        ("1e9", f"got 1000000000.0; expected more than 0 and less than 1: {RATE}"),
        ("true", f"got true; expected {RATE}"),
        ("0.1%", "got '0.1%'; expected a number between 0 and 1, or null"),
    ],
)
def test_a_rate_that_is_no_share_is_refused_with_what_to_write(rate: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(f"{KMEANS}, anomaly: {{rate: {rate}}}")
    assert str(error.value) == f"settings:1: models.m.anomaly.rate: {problem}"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (f"{KMEANS}, anomaly: 0.01", "write anomaly: {rate: 0.01}"),
        (f"{KMEANS}, anomaly: true", "write anomaly: {rate: 0.001}"),
        (f"{KMEANS}, anomaly: false", "write anomaly: {rate: null}"),
        (f"{KMEANS}, anomaly: {{contamination: 0.1}}", "unknown key; did you mean rate?"),
        (f"{KMEANS}, anomaly: {{top: 5}}", f"no effect without a rate: top; add rate: {RATE}"),
        (
            f"{KMEANS}, anomaly: {{score: tail_score}}, encode: {{score: tail_score}}",
            "anomaly.score is tail_score, which has no effect without anomaly.rate or quantile in "
            "encode.score; add one, or remove anomaly.score",
        ),
        (
            f"{KMEANS}, anomaly: {{score: tail, rate: 0.1}}",
            "got 'tail'; expected model | tail_score",
        ),
        (
            f"{KMEANS}, anomaly: {{score: tail_score, rate: 0.1}}, points: {{n_features: 5000}}",
            "anomaly.score has tail_score, but the points have 5,000 features; the tail score "
            "remembers 257 numbers per feature, and the limit is 1,000 features; use another score",
        ),
        (
            f"{KMEANS}, encode: {{score: tail_score}}, points: {{n_features: 1001}}",
            "encode.score has tail_score, but the points have 1,001 features",
        ),
        (f"{KMEANS}, anomaly: {{rate: 0.1, top: 0}}", "expected an integer >= 1 and <= 100"),
        (
            f"{KMEANS}, encode: true, anomaly: {{rate: 0.1, worker: false}}",
            "encode.worker is true and anomaly.worker is false",
        ),
        (
            f"{KMEANS}, encode: {{score: [distance, log_density]}}",
            "encode.score has log_density, which kind kmeans doesn't have; "
            "expected distance, scaled_distance, tail_score or quantile",
        ),
        (
            f"{MIXTURE}, encode: {{score: scaled_distance}}",
            "encode.score has scaled_distance, which kind gaussian_mixture doesn't have; "
            "expected distance, log_density, mahalanobis, tail_score or quantile",
        ),
        (
            f"{KMEANS}, metric: cosine, encode: {{score: scaled_distance}}",
            "which metric cosine doesn't have; expected distance, tail_score or quantile",
        ),
        (f"{KMEANS}, encode: {{score: scaled_distance}}", "set scale: standard, or remove"),
        (f"{KMEANS}, encode: {{score: []}}", "got an empty list; expected distance |"),
        (f"{KMEANS}, encode: {{score: logdensity}}", "did you mean log_density?"),
        (f"{KMEANS}, encode: {{score: [quantile, quantile]}}", "has 'quantile' twice; remove one"),
        (f"{KMEANS}, encode: {{labels: [quantile]}}", "'quantile' is a reserved field of :codes"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(settings)
    assert problem in str(error.value)


def test_a_model_remembers_scores_only_for_alerts_or_quantiles() -> None:
    assert not model(KMEANS).remembers_scores
    assert not model(f"{KMEANS}, anomaly: {{rate: null, top: 5}}").remembers_scores
    assert not model(f"{MIXTURE}, encode: {{score: [mahalanobis, log_density]}}").remembers_scores
    assert model(f"{KMEANS}, encode: {{score: quantile}}").remembers_scores
    assert model(f"{KMEANS}, anomaly: {{rate: 0.001}}").remembers_scores


@pytest.mark.parametrize(
    ("settings", "remembers"),
    [
        ("anomaly: {rate: 0.001, score: model}", False),
        ("anomaly: {rate: 0.001, score: tail_score}", True),
        ("anomaly: {rate: null, score: tail_score}", False),
        ("anomaly: {score: tail_score}, encode: {score: quantile}", True),
        ("encode: {score: [tail_score, distance]}", True),
    ],
)
def test_a_model_remembers_its_features_only_for_tail_scores(
    settings: str, remembers: bool
) -> None:
    for kind in (KMEANS, MIXTURE, f"{KMEANS}, metric: cosine"):
        assert model(f"{kind}, {settings}").remembers_features == remembers


def test_overrides_of_a_template_change_the_rate_of_single_models() -> None:
    overrides = (
        "{a: {anomaly: {rate: 0.01}}, b: {anomaly: {rate: null}}, c: {anomaly: {top: 5}}, d: "
        "{anomaly: null}}"
    )
    models = parse_settings(
        'models: {"m-{t}": {kind: kmeans, n_clusters: 2, streams: "s:{t}", '
        f"anomaly: {{rate: 0.001}}, overrides: {overrides}}}}}"
    ).models
    found = {key: models[f"m-{key}"].anomaly for key in "abcdz"}
    assert {key: each.rate for key, each in found.items()} == {
        **dict.fromkeys("cz", 0.001),
        **{"a": 0.01, "b": None, "d": None},
    }
    assert (found["c"].top, found["z"].top) == (5, 3)
