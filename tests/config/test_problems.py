"""Every mistake gets one line: its place, its value, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamclust.config import load_settings
from streamclust.errors import ConfigError
from streamclust.store.model.keys import Keys, is_own

FILE = """\
models:
  palette:
    kind: kmeans
    n_clusters: 64
    streams: [pixels]
"""


def told(text: str = FILE, environ: dict[str, str] | None = None, *flags: str) -> list[str]:
    """Return the lines of the error that this text, environment and flags give."""
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(Path("c.yaml"), flags, environ or {})
    return str(caught.value).splitlines()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def model(**changes: str) -> str:
    keys = {"kind": "kmeans", "n_clusters": "4", "streams": "[x]"} | changes
    return "models: {m: {" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "redis:\n  pasword: x",
            "c.yaml:2: redis.pasword: unknown key; did you mean password? "
            "allowed: url, data_dir, username, password, password_file, sentinel_username, "
            "sentinel_password, sentinel_password_file",
        ),
        (
            "modells: {}",
            "c.yaml:1: modells: unknown key; did you mean models? "
            "allowed: namespace, redis, worker, log, engine, defaults, models",
        ),
        (
            "_env_file: x",
            "c.yaml:1: _env_file: unknown key; "
            "allowed: namespace, redis, worker, log, engine, defaults, models",
        ),
        (
            "models: {m: {kind: gmm, n_components: 3, streams: x}}",
            "c.yaml:1: models.m.kind: got 'gmm'; expected kmeans | gaussian_mixture; did you mean "
            "gaussian_mixture?",
        ),
        (
            model(drift="page_hinkley"),
            "c.yaml:1: models.m.drift: got 'page_hinkley'; expected keys with values; write "
            "drift: {detector: page_hinkley}",
        ),
        (
            model(drift="{threshold: 5, on_drift: forget}"),
            "c.yaml:1: models.m.drift: no effect without a detector: on_drift, threshold; add "
            "detector: page_hinkley, adwin, or none",
        ),
        (
            model(forgetting="none"),
            "c.yaml:1: models.m.forgetting: got 'none'; expected keys with values; write "
            "forgetting: {kind: none}",
        ),
        ("worker: 3", "c.yaml:1: worker: got one value; expected keys with values"),
        ("worker: [3]", "c.yaml:1: worker: got a list; expected keys with values"),
        (
            "models: [x]",
            "c.yaml:1: models: got a list; expected keys with values; write models: {NAME: "
            "{kind: ...}}",
        ),
        ("models: {m: 3}", "c.yaml:1: models.m: got one value; expected keys with values"),
        ("models: {m: }", "c.yaml:1: models.m: got null; expected keys with values"),
        (
            model(encode="yes"),
            "c.yaml:1: models.m.encode: got one value; expected keys with values; write encode: "
            "true",
        ),
        (
            "engine: {workers: 99999}",
            "c.yaml:1: engine.workers: got 99999; expected an integer from 1 to 1,024, or auto",
        ),
        (
            "redis: {data_dir: ''}",
            "c.yaml:1: redis.data_dir: got ''; expected a path; . is the current folder",
        ),
        (f"seed: {'9' * 5000}", "c.yaml:1:7: a number has more than 1,000 digits"),
        (
            "models: {'a-{t}': {kind: kmeans, n_clusters: 2, "
            "streams: '{{streamclust:{t}}}:codes'}}",
            "c.yaml:1: models.a-{t}.streams: '{{streamclust:{t}}}:codes' is a key that streamclust "
            "writes; name the stream that your producers write",
        ),
        (
            "models: {'a-{t}': {kind: kmeans, n_clusters: 2, streams: 'a:{t}', "
            "overrides: {'': ~}}}",
            "c.yaml:1: models.a-{t}.overrides.: got ''; no stream has such a value: it is empty or "
            "has a control character",
        ),
        (
            "models:\n  a-{t}:\n    streams: {t}:a",
            "c.yaml:3:17: not YAML: while parsing a block mapping expected <block end>, but found "
            "'<scalar>'; check the indentation, and put text that begins with { or [ in quotes",
        ),
        (
            "namespace: a b",
            "c.yaml:1: namespace: got 'a b'; expected text of letters, digits, _, . and -",
        ),
        (
            "\nlog: {level: wraning}",
            "c.yaml:2: log.level: got 'wraning'; expected debug | info | warning | error; "
            "did you mean warning?",
        ),
        (
            "worker:\n  lease: soon",
            "c.yaml:2: worker.lease: got 'soon'; "
            "expected a duration (200ms, 10s, 5m, 6h, 1d, or seconds)",
        ),
        (
            "worker: {lease: 0}",
            "c.yaml:1: worker.lease: got 0; "
            "expected a duration (200ms, 10s, 5m, 6h, 1d, or seconds) > 0",
        ),
        ("models: {m: {}}", "c.yaml:1: models.m.kind: missing; expected kmeans | gaussian_mixture"),
        (
            model(kind="kmean"),
            "c.yaml:1: models.m.kind: got 'kmean'; expected kmeans | gaussian_mixture; "
            "did you mean kmeans?",
        ),
        (
            model(n_clusters="0"),
            "c.yaml:1: models.m.n_clusters: got 0; expected an integer >= 1, or auto",
        ),
        (
            model(n_clusters="true"),
            "c.yaml:1: models.m.n_clusters: got true; expected an integer >= 1, or auto",
        ),
        (
            model(start="soon"),
            "c.yaml:1: models.m.start: got 'soon'; "
            "expected earliest, latest, or an entry ID such as 1526919030474-0",
        ),
        (
            model(streams="[x, 7]"),
            "c.yaml:1: models.m.streams.1: got 7; "
            "expected text (in quotes if it looks like a number)",
        ),
        *(
            (
                model(streams=name),
                f"c.yaml:1: models.m.streams.0: got {shown}; expected a name without control "
                f"characters",
            )
            for name, shown in {
                r'"a\nb"': r"'a\nb'",
                r'"a\0"': r"'a\x00'",
                r'["\e[2J"]': r"'\x1b[2J'",
                r'["a\u202e"]': r"'a\u202e'",
            }.items()
        ),
        (
            model(points=r'{features: [x, "y\n"]}'),
            r"c.yaml:1: models.m.points.features.1: got 'y\n'; expected a name without "
            r"control characters",
        ),
        (
            model(points=r'{weight_field: "w\x85"}'),
            r"c.yaml:1: models.m.points.weight_field: got 'w\x85'; expected a name without "
            r"control characters",
        ),
        (
            model(encode=r'{labels: ["k\t"]}'),
            r"c.yaml:1: models.m.encode.labels.0: got 'k\t'; expected a name without control "
            r"characters",
        ),
        (
            r'models: {"m\nforged": {kind: kmeans, n_clusters: 2, streams: x}}',
            r"c.yaml:1: models.m\nforged: got 'm\nforged'; expected text of letters, digits, _, . "
            "and -",
        ),
        (
            r'namespace: "a\0"',
            r"c.yaml:1: namespace: got 'a\x00'; expected text of letters, digits, _, . and -",
        ),
        (
            r'"a\nb": 3',
            r"c.yaml:1: a\nb: unknown key; "
            "allowed: namespace, redis, worker, log, engine, defaults, models",
        ),
        (
            r'redis: {data_dir: "a\0b"}',
            r"c.yaml:1: redis.data_dir: got 'a\x00b'; expected a path without a NUL character",
        ),
        (
            model(init=r'{kind: file, path: "a\0b"}'),
            r"c.yaml:1: models.m.init.path: got 'a\x00b'; expected a path without a NUL character",
        ),
        *(
            (
                f"namespace: shop\n{model(streams=stream)}",
                f"c.yaml:2: models.m.streams: {stream[1:-1]!r} is a key that streamclust writes; "
                "name the stream that your producers write",
            )
            for stream in ('"{shop:m}:codes"', '"{shop:other}:state"', '"{shop:x}:codes:y"')
        ),
        (
            model(encode='{streams: [x, "{streamclust:a}:dead"]}'),
            "c.yaml:1: models.m.encode.streams: '{streamclust:a}:dead' is a key that streamclust "
            "writes; name the stream that your producers write",
        ),
        *(
            (
                model(**size),
                f"c.yaml:1: models.m: n_clusters 1000000000{features} makes a state of 22888 MB; "
                "expected at most 512 MB, the limit of one value in Redis; reduce one of them",
            )
            for features, size in {
                "": {"n_clusters": "1000000000"},
                " with 1 feature": {"n_clusters": "1000000000", "points": "{n_features: 1}"},
            }.items()
        ),
        (
            model(n_clusters="auto", n_clusters_range="[2, 1000000000]"),
            "c.yaml:1: models.m: n_clusters 1000000000 makes a state of 22888 MB; "
            "expected at most 512 MB, the limit of one value in Redis; reduce one of them",
        ),
        (
            "models: {m: {kind: gaussian_mixture, n_components: 1000000000, streams: x}}",
            "c.yaml:1: models.m: n_components 1000000000 makes a state of 38146 MB; "
            "expected at most 512 MB, the limit of one value in Redis; reduce one of them",
        ),
        (
            model(init="{kind: warm_up, points: 1000000000}"),
            "c.yaml:1: models.m: init.points is 1000000000; expected at most 33554432: the state "
            "holds these points, and one value in Redis holds 512 MB",
        ),
        (
            model(init="{kind: warm_up, points: 1000000}", points="{n_features: 99}"),
            "c.yaml:1: models.m: init.points is 1000000; expected at most 671088 with 99 features: "
            "the state holds these points, and one value in Redis holds 512 MB",
        ),
        (
            model(coreset="{points: 1000000000}"),
            "c.yaml:1: models.m: coreset.points is 1000000000; expected at most 16777216: the "
            "state holds these points, and one value in Redis holds 512 MB",
        ),
        (
            model(publish="{keep: 1000000000}"),
            "c.yaml:1: models.m.publish.keep: got 1000000000; expected an integer >= 1 "
            "and <= 1000000",
        ),
        (
            model(batch="{max_entry_bytes: 1000000000}"),
            "c.yaml:1: models.m.batch.max_entry_bytes: got 1000000000; expected an integer >= "
            "1048576 and <= 536870912",
        ),
        (
            model(batch="{size: 1000000000}"),
            "c.yaml:1: models.m.batch.size: got 1000000000; expected at most 10000000: a batch is "
            "held in memory",
        ),
        (
            model(batch="{linger: 400d}"),
            "c.yaml:1: models.m.batch.linger: got '400d'; expected at most 1d",
        ),
        (
            "worker: {lease: 300d}",
            "c.yaml:1: worker.lease: got '300d'; expected at most 1d",
        ),
        (
            "worker: {health_ttl: 1ms}",
            "c.yaml:1: worker.health_ttl: got '1ms'; expected at least 100ms, since it is "
            "renewed over the network",
        ),
        (
            model(init="{kind: warm_up, restarts: 1000000}"),
            "c.yaml:1: models.m.init.restarts: got 1000000; expected an integer >= 1 and <= 1000",
        ),
        (
            model(streams="[x, x]"),
            "c.yaml:1: models.m.streams: streams has 'x' twice; remove one",
        ),
        (
            model(scale="standard", init="{kind: file, path: x}"),
            "c.yaml:1: models.m: scale is standard, but init has no warm-up to learn the "
            "scale; remove init or scale",
        ),
        (
            "models: {m: {kind: gaussian_mixture, n_components: 2, streams: x, scale: robust, "
            "covariance_type: spherical}}",
            "c.yaml:1: models.m: scale is robust, which doesn't keep spherical covariances "
            "spherical; use covariance_type diag",
        ),
        (
            model(forgetting="{lambda: 3}"),
            "c.yaml:1: models.m.forgetting.kind: missing; expected none | points | time | power",
        ),
        (
            model(forgetting="{kind: points}"),
            "c.yaml:1: models.m.forgetting.half_life: missing; expected a number > 0",
        ),
        (
            model(forgetting="{kind: power, kappa: 0.5}"),
            "c.yaml:1: models.m.forgetting.kappa: got 0.5; expected a number > 0.5 and <= 1",
        ),
        (
            model(init="{kind: warm_up, points: 3}"),
            "c.yaml:1: models.m: init.points is 3; expected at least n_clusters, 4",
        ),
        (
            model(points="{n_features: 8000000}"),
            "c.yaml:1: models.m: n_clusters 4 with 8000000 features makes a state of 732 MB; "
            "expected at most 512 MB, the limit of one value in Redis; reduce one of them",
        ),
        (
            model(n_clusters_range="[2, 9]"),
            "c.yaml:1: models.m: n_clusters_range needs n_clusters: auto, but n_clusters is "
            "4; remove one of them",
        ),
        (
            model(n_clusters="auto", n_clusters_range="[9, 2]"),
            "c.yaml:1: models.m: n_clusters_range is [9, 2]; expected the minimum first",
        ),
        (
            model(n_clusters="auto", n_clusters_range="[9]"),
            "c.yaml:1: models.m.n_clusters_range.1: missing; expected an integer >= 1",
        ),
        (
            model(n_clusters="auto", init="{kind: warm_up, points: 30}"),
            "c.yaml:1: models.m: init.points is 30; expected at least the maximum of "
            "n_clusters, 50",
        ),
        (
            "models: {a b: {kind: kmeans, n_clusters: 1, streams: x}}",
            "c.yaml:1: models.a b: got 'a b'; expected text of letters, digits, _, . and -",
        ),
    ],
)
def test_one_mistake_in_the_file_is_one_line(text: str, line: str) -> None:
    assert told(text) == [line]


def test_a_key_of_any_length_is_told_in_a_line_that_can_be_read() -> None:
    for text in (f"log: {{{'a' * 900}: 1}}", f"{'a' * 900}: 1", f"models: {{{'a' * 900}: 1}}"):
        (line,) = told(text)
        assert len(line) < 400
        assert "aaaa..." in line


def test_an_unknown_key_of_a_model_names_those_of_its_kind() -> None:
    (line,) = told(FILE.replace("n_clusters", "n_cluster") + "    n_clusters: 3\n")
    assert line.startswith(
        "c.yaml:4: models.palette.n_cluster: unknown key; did you mean n_clusters? allowed: kind, "
    )
    assert "n_components" not in line


def test_all_mistakes_are_told_at_once_each_with_its_own_line() -> None:
    lines = told(
        "log: {level: x}\nreddis: {}\nmodels:\n  m:\n    kind: kmeans\n    n_clusters: 0\n",
    )
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "reddis",
        "log.level",
        "models.m.streams",
        "models.m.n_clusters",
    ]
    assert [line.split(":")[1] for line in lines] == ["2", "1", "4", "6"]


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        (
            "STREAMCLUST_REDDIS__URL",
            "x",
            "STREAMCLUST_REDDIS__URL: unknown variable; did you mean STREAMCLUST_REDIS__URL?",
        ),
        (
            "STREAMCLUST_REDIS__PASWORD",
            "x",
            "STREAMCLUST_REDIS__PASWORD: unknown variable; "
            "did you mean STREAMCLUST_REDIS__PASSWORD?",
        ),
        (
            "STREAMCLUST_MODELS__PALETTE__N_CLUSTER",
            "3",
            "STREAMCLUST_MODELS__PALETTE__N_CLUSTER: unknown variable; "
            "did you mean STREAMCLUST_MODELS__PALETTE__N_CLUSTERS?",
        ),
        (
            "STREAMCLUST_XYZ",
            "3",
            "STREAMCLUST_XYZ: unknown variable; see `streamclust config show`",
        ),
        (
            "STREAMCLUST_MODELS__PALLETE__SEED",
            "3",
            "STREAMCLUST_MODELS__PALLETE__SEED: models.pallete: unknown model; "
            "did you mean palette?",
        ),
        (
            "STREAMCLUST_MODELS__PALETTE__SEED",
            "x",
            "STREAMCLUST_MODELS__PALETTE__SEED: models.palette.seed: got 'x'; "
            "expected an integer >= 0",
        ),
        (
            "STREAMCLUST_LOG",
            "{levl: info}",
            "STREAMCLUST_LOG: log.levl: unknown key; did you mean level? allowed: level, format",
        ),
        (
            "STREAMCLUST_REDIS",
            "redis://h",
            "STREAMCLUST_REDIS: redis: got 'redis://h'; expected keys with values; write "
            "STREAMCLUST_REDIS__URL=redis://h",
        ),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(variable: str, value: str, line: str) -> None:
    assert told(FILE, {variable: value}) == [line]


def test_a_section_given_as_text_is_told_even_if_its_keys_are_given_too() -> None:
    environ = {"STREAMCLUST_REDIS": "redis://h", "STREAMCLUST_REDIS__USERNAME": "ann"}
    (line,) = told(FILE, environ)
    assert line.startswith("STREAMCLUST_REDIS")
    (line,) = told("log: debug", {"STREAMCLUST_LOG__LEVEL": "info"})
    assert line.endswith("log: got 'debug'; expected keys with values; write log: {level: debug}")


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("log.level", "--set log.level: expected KEY=VALUE, such as log.level=debug"),
        ("=x", "--set : expected KEY=VALUE, such as log.level=debug"),
        (
            "log.levl=x",
            "--set log.levl: log.levl: unknown key; did you mean level? allowed: level, format",
        ),
        (
            "redis.url=ftp://x",
            "--redis-url: redis.url: got 'ftp://x'; "
            "expected embedded, or a URL that begins with redis://, rediss://, unix://, "
            "redis+sentinel:// or redis+cluster://",
        ),
        (
            "models.palette.streams=[a",
            "--set models.palette.streams:1:3: not YAML: while parsing a flow sequence "
            "expected ',' or ']', but got '<stream end>'; is a bracket or a comma missing?",
        ),
        (
            "models.palette.drift=page_hinkley",
            "--set models.palette.drift: models.palette.drift: got 'page_hinkley'; expected keys "
            "with values; write --set models.palette.drift.detector=page_hinkley",
        ),
        (
            "n_clusters=5",
            "--set n_clusters: n_clusters: unknown key; did you mean models.palette.n_clusters?",
        ),
        (
            "palette.seed=5",
            "--set palette.seed: palette: unknown key; did you mean models.palette?",
        ),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(flag: str, line: str) -> None:
    assert told(FILE, {}, flag) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "c.yaml: the file is empty; expected settings, such as models: ..."),
        ("# a comment\n", "c.yaml: the file is empty; expected settings, such as models: ..."),
        ("- a\n- b", "c.yaml: expected keys with values at the top, got a list"),
        ("hello", "c.yaml: expected keys with values at the top, got one value"),
        ("log:\n  level: info\n  level: debug", "c.yaml:3:3: duplicate key level; remove one"),
        ("log: {level: info}\nlog: {}", "c.yaml:2:1: duplicate key log; remove one"),
        ("[a, b]: 1", "c.yaml:1:1: a list or mapping can't be a key"),
        ("a: 1\n---\nb: 2", "c.yaml:2:1: not YAML: expected a single document in the stream but"),
        ("log: {level: info", "c.yaml:1:18: not YAML: while parsing a flow mapping"),
        (
            "log:\n\tlevel: info",
            "c.yaml:2:1: not YAML: a tab can't be used here; indent and separate with spaces",
        ),
        ("log:\tinfo", "c.yaml:1:5: not YAML: a tab can't be used here"),
        ("a: &a\n  b: *a", "c.yaml:1:4: an anchor can't hold an alias of itself"),
        ("a: *b", "c.yaml:1:4: not YAML: found undefined alias"),
        (
            "\n".join(
                ["a0: &a0 [1]", *(f"a{i + 1}: &a{i + 1} [{f'*a{i},' * 9}]" for i in range(9))]
            ),
            "c.yaml: aliases expand to too many values",
        ),
        ("a: !!python/name:os.system x", "c.yaml:1:4: not YAML: could not determine"),
        ("a: \x07", "c.yaml:1: not YAML: special characters are not allowed"),
        ("a: !!int x", "c.yaml: not YAML: a bad number or date"),
        ("[" * 1000, "c.yaml: not YAML: nested too deep"),
    ],
)
def test_a_file_that_is_not_yaml_is_told_with_line_and_column(text: str, line: str) -> None:
    (found,) = told(text)
    assert found.startswith(line)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^none\.yaml: the file doesn't exist; name another"):
        load_settings(Path("none.yaml"), (), {})
    with pytest.raises(ConfigError, match=r"^none\.yaml: the file doesn't exist"):
        load_settings(None, (), {"STREAMCLUST_CONFIG": "none.yaml"})


def test_an_unreadable_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^\.: can't be read: Is a directory$"):
        load_settings(Path(), (), {})
    Path("latin.yaml").write_bytes(b"namespace: caf\xe9")
    with pytest.raises(
        ConfigError, match=r"^latin\.yaml: can't be read: not UTF-8 text; save it as UTF-8$"
    ):
        load_settings(Path("latin.yaml"), (), {})


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("a: b: c", "check the indentation, and put text with ': ' in quotes"),
        ('a: "x', "is a closing quote missing?"),
        (r'a: "C:\data"', "write a backslash as \\\\ in double quotes, or use single quotes"),
        ("a: [1, 2", "is a bracket or a comma missing?"),
        ("a: @x", "put text that begins with this character in quotes"),
        ("a: *x", "put text that begins with *, & or ! in quotes"),
        ("a:\n  b: 1\n c: 2", "check the indentation"),
    ],
)
def test_the_usual_mistakes_in_yaml_have_a_remedy(text: str, end: str) -> None:
    (line,) = told(text)
    assert line.endswith(end)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (
            "models: {m: {kind: gaussian_mixture, n_clusters: 3, streams: x}}",
            "models.m.n_clusters: unknown key; a mixture has n_components; write n_components: 3",
        ),
        (
            "models: {m: {kind: kmeans, n_components: auto, streams: x}}",
            "models.m.n_components: unknown key; K-means has n_clusters; write n_clusters: 'auto'",
        ),
        (
            model(covariance_type="full"),
            "covariance_type: unknown key; only gaussian_mixture has covariance_type",
        ),
        (model(half_life="3"), "did you mean models.m.forgetting.half_life?"),
        (model(features="[x]"), "did you mean models.m.points.features?"),
        (model(points="{scale: standard}"), "did you mean models.m.scale?"),
        (
            model(keep="3"),
            "did you mean models.m.publish.keep, models.m.dead.keep, models.m.encode.keep or "
            "models.m.anomaly.keep?",
        ),
        ("url: redis://h", "url: unknown key; did you mean redis.url?"),
        ("m: {kind: kmeans}\nmodels: {m: {}}", "m: unknown key; did you mean models.m?"),
        (
            "models: {kind: kmeans, n_clusters: 3, streams: x}",
            "models.kind: a model has a name above its keys; write models: {NAME: {kind: ...}}",
        ),
        (
            "models: {m: {n_components: 3, streams: x}}",
            "models.m.kind: missing; expected kmeans | gaussian_mixture; write kind: "
            "gaussian_mixture",
        ),
    ],
)
def test_a_key_in_the_wrong_place_names_the_right_one(text: str, end: str) -> None:
    assert told(text)[0].endswith(end)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("kind", "k-means", "did you mean kmeans?"),
        ("kind", "MiniBatchKMeans", "did you mean kmeans?"),
        ("kind", "GMM", "did you mean gaussian_mixture?"),
        ("scale", "z-score", "did you mean standard?"),
        ("start", "begin", "did you mean earliest?"),
        ("forgetting", "10m", "write forgetting: {half_life: 10m}"),
        ("forgetting", "1e6", "write forgetting: {half_life: 1000000}"),
        ("trim", "1d", "write trim: {age: 1d}"),
        ("batch", "500", "write batch: {size: 500}"),
        ("commit", "5s", "write commit: {every: 5s}"),
        ("coreset", "false", "write coreset: {points: 0}"),
        ("drift", "true", "write drift: {detector: page_hinkley}"),
        ("init", "model.safetensors", "write init: {path: model.safetensors}"),
        ("points", "{features: x}", "write features: [x]"),
        ("streams", "[]", "write a name, such as streams: [points]"),
        (
            "forgetting",
            "{kind: points, half_life: 10m}",
            "half_life: got '10m'; expected a number > 0; for a duration, write kind: time",
        ),
        *(
            (
                "streams",
                f'["{name}"]',
                f"models.m.streams: '{name}' looks like a pattern, but each stream is read by its "
                "name; write every name, such as [clicks-1, clicks-2], or a template, such as "
                "clicks-{tenant} (docs/tenants.md)",
            )
            for name in ("tenant-*", "*", "clicks:?")
        ),
    ],
)
def test_a_value_in_another_form_names_the_right_one(key: str, value: str, hint: str) -> None:
    (line,) = told(model(**{key: value}))
    assert line.endswith(hint)


def test_long_values_are_cut_short() -> None:
    (line,) = told(f"namespace: {'long ' * 100}")
    assert len(line) < 150


def test_what_cannot_work_is_refused_wherever_it_is_set() -> None:
    many, codes = "1000000000", "'{streamclust:m}:codes'"
    [line] = told(model(), {"STREAMCLUST_MODELS__M__N_CLUSTERS": many})
    assert line.startswith("c.yaml:1: models.m: n_clusters 1000000000 makes a state of ")
    [line] = told(model(), {}, f"models.m.n_clusters={many}")
    assert line.startswith("c.yaml:1: models.m: n_clusters 1000000000 makes a state of ")
    [line] = told(model(), {"STREAMCLUST_MODELS__M__STREAMS": codes})
    assert line.startswith("STREAMCLUST_MODELS__M__STREAMS: models.m.streams: ")
    [line] = told(model(), {}, f"models.m.streams={codes}")
    assert line.startswith("--set models.m.streams: models.m.streams: ")
    [line] = told(model(), {}, "models.m.streams=a\nb")
    assert line.startswith(
        r"--set models.m.streams: models.m.streams.0: got 'a\nb'; expected a name"
    )
    for line in told(model(), {}, "models.q\x1b[2J\n.n_clusters=3"):
        assert line.isprintable()


def test_streams_that_only_look_like_own_keys_are_accepted() -> None:
    streams = ["{streamclust:m}:points", "{shop:m}:codes", "streamclust:m:codes", "é ü", "shared"]
    Path("c.yaml").write_text(model(streams=str(streams)) + "\n")
    assert list(load_settings(Path("c.yaml"), (), {}).models["m"].streams) == streams


def test_every_key_of_a_model_is_known_as_its_own() -> None:
    keys = Keys("shop", "m")
    names = [name for name, member in vars(Keys).items() if isinstance(member, property)]
    named = {name: getattr(keys, name) for name in names}
    own = {name for name, key in named.items() if isinstance(key, str) and key.startswith("{")}
    assert own == {name for name in own if is_own(named[name], "shop")}
    assert own >= {"state", "models", "dead", "lease", "token", "health", "proposal", "refitting"}
    assert is_own(keys.codes(), "shop")
    assert is_own(keys.codes("a:b"), "shop")


def test_a_file_without_an_end_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: has more than 33,554,432 bytes"):
        load_settings(Path("/dev/zero"), (), {})
    settings = load_settings(None, ("redis.password_file=/dev/zero",), {})
    with pytest.raises(ConfigError, match="/dev/zero has more than 65,536 bytes"):
        settings.redis.read_password()


def test_a_long_value_is_cut_in_what_to_write_too() -> None:
    lines = told(model(), {"STREAMCLUST_MODELS__M__INIT": "9" * 5000})
    assert max(map(len, lines)) < 400
