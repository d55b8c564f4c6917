"""The proposal for a file is what an expert would choose: columns, scale, kind, number."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamclust.errors import DataError
from streamclust.quickstart.proposal import Proposal, model_name, propose
from streamclust.tables import TableOptions
from tests.support.directions import directions, unit

CENTRES = np.array([[40.0, 20.0, 250.0], [55.0, 70.0, 900.0], [75.0, 95.0, 2100.0]])
SPREADS = np.array([2.0, 5.0, 60.0])


def measurements(n: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Three clusters of a temperature, a load and a memory; and the cluster of each row."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 3, n)
    return CENTRES[z] + rng.normal(size=(n, 3)) * SPREADS, z


def write(path: Path, header: str, rows: Iterable[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def proposed(path: Path, **options: Any) -> Proposal:
    return propose(path, TableOptions(on_bad="skip", **options))


def test_identifiers_times_classes_and_constants_are_no_features(tmp_path: Path) -> None:
    X, z = measurements(1500)
    rows = (
        f"2026-05-01T00:{i // 60:02d}:{i % 60:02d},web-{i % 7},{900 + i},200,{z[i]},"
        f"{x[0]},{x[1]},{x[2]}"
        for i, x in enumerate(X)
    )
    header = "timestamp,host,event_id,status,class,temperature,load,memory"
    found = proposed(write(tmp_path / "telemetry.csv", header, rows))
    assert found.rows.features == ("temperature", "load", "memory")
    assert found.rows.options.time_column == "timestamp"
    assert found.rows.options.label_columns == ("host", "class")
    assert (found.kind, found.scale, found.n_components) == ("kmeans", "standard", 3)
    assert (found.name, found.format, found.block) == ("telemetry", "fields", 1)
    assert found.model["encode"] == {"labels": ["host", "class"]}
    assert any("'event_id' isn't used: it identifies rows" in note for note in found.rows.notes)


def test_a_column_that_counts_the_rows_is_found_without_its_name(tmp_path: Path) -> None:
    X, _ = measurements(300)
    rows = (f"{17 + i},{x[0]},{x[1]}" for i, x in enumerate(X))
    found = proposed(write(tmp_path / "a.csv", "position,temperature,load", rows))
    assert found.rows.features == ("temperature", "load")
    assert found.rows.needs_columns


def test_features_of_one_unit_keep_their_scale_and_a_short_file_its_start(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(3, 2)) * 10.0, 50, axis=0) + rng.normal(size=(150, 2))
    found = proposed(write(tmp_path / "a.csv", "x,y", (f"{x},{y}" for x, y in X)))
    assert (found.scale, found.n_components) == ("none", 3)
    assert found.model["init"] == {"points": 150}


def test_far_points_lead_to_a_mixture(tmp_path: Path) -> None:
    X, _ = measurements(3000)
    X[::300, 0] = -26_000.0
    path = tmp_path / "a.csv"
    found = proposed(write(path, "x,y,z", (",".join(map(str, x)) for x in X)))
    assert (found.kind, found.scale) == ("gaussian_mixture", "none")
    assert "far points" in found.remarks["kind"]
    kmeans = propose(path, TableOptions(), kind="kmeans", n_components=5)
    assert (kmeans.kind, kmeans.n_components, kmeans.size) == ("kmeans", 5, None)


def test_a_wide_array_is_learned_whole_in_raw_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 384))
    X = centres[rng.integers(0, 5, 1000)] + rng.normal(size=(1000, 384)) * 0.5
    X[:, 7] = 0.0  # as the border of a picture
    np.save(tmp_path / "embeddings.npy", X.astype(np.float32))
    found = proposed(tmp_path / "embeddings.npy")
    assert len(found.rows.features) == 384
    assert (found.scale, found.n_components) == ("none", 5)
    assert (found.format, found.block) == ("float32", 341)
    assert "points" not in found.model


@pytest.mark.parametrize(("clusters", "chosen"), [(25, 25), (90, 40)])
def test_the_range_is_doubled_and_its_end_is_named(
    tmp_path: Path, clusters: int, chosen: int
) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(clusters, 8)) * 10.0
    np.save(tmp_path / "e.npy", centres[rng.integers(0, clusters, 3000)] + rng.normal(size=8))
    found = proposed(tmp_path / "e.npy")
    assert found.n_components == chosen
    is_end = "40 is the largest K that was tried (K from 1 to 40" in found.remarks["n_components"]
    assert is_end == (chosen == 40)


def test_separator_decimal_comma_bad_rows_and_empty_columns(tmp_path: Path) -> None:
    X, _ = measurements(600)
    rows = [f"{x[0]:.2f};{x[1]:.2f};".replace(".", ",") for x in X]
    rows[100:103] = ["oops", "1;2", "n/a;3,5;"]
    found = proposed(write(tmp_path / "europe.csv", "Temperatur;Last;Notiz", rows))
    assert found.rows.features == ("Temperatur", "Last")
    assert (found.rows.options.delimiter, found.rows.options.decimal) == (";", ",")
    assert (len(found.rows.X), found.rows.bad) == (597, 3)
    assert "line 102" in found.rows.reason
    assert found.n_components == 3


def test_json_lines_with_numbers_that_are_names(tmp_path: Path) -> None:
    X, z = measurements(400)
    rng = np.random.default_rng(1)
    docs = (
        {"userId": int(rng.integers(1, 10**6)), "x": x[0], "y": x[1], "kind": "ABC"[k]}
        for x, k in zip(X, z, strict=True)
    )
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    found = proposed(path)
    assert found.rows.features == ("x", "y")
    assert found.rows.options.label_columns == ("kind",)


def test_times_that_are_not_sorted_or_in_the_future_give_no_ids(tmp_path: Path) -> None:
    X, _ = measurements(60)
    mixed = (f"2026-01-{1 + i * 7 % 28:02d},{x[0]},{x[1]}" for i, x in enumerate(X))
    found = proposed(write(tmp_path / "a.csv", "time,x,y", mixed))
    assert found.rows.options.time_column is None
    future = (f"2126-01-01T00:00:{i:02d},{x[0]},{x[1]}" for i, x in enumerate(X))
    found = proposed(write(tmp_path / "b.csv", "time,x,y", future))
    assert found.rows.options.time_column is None
    assert "'time' isn't used: it has times in the future" in found.rows.notes
    assert found.rows.needs_columns


def test_weights_are_named_in_the_settings(tmp_path: Path) -> None:
    rows = (f"{i % 3 * 5 + i / 100},{i % 4 + 1}" for i in range(100))
    found = proposed(write(tmp_path / "a.csv", "x,n", rows), weight_column="n")
    assert found.model["points"] == {"features": ["x"], "weight_field": "n"}


def test_given_columns_are_not_questioned(tmp_path: Path) -> None:
    rows = (f"{i},{i % 3},{i % 5}.5" for i in range(50))
    found = proposed(write(tmp_path / "a.csv", "id,class,x", rows), columns=("id", "class"))
    assert found.rows.features == ("id", "class")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n", "one row of numbers; expected at least two"),
        ("name,city\nann,oslo\nbob,rome\n", r"no column of features: 'name' \(ignored\)"),
        (
            "a,b\n" + "1,2\n" * 9,
            r"'a' \(constant\), 'b' \(constant\); name features with --columns",
        ),
        ("a,b\n1e200,x\n" + "1e200,1\n2e200,2\n" * 9, "no row of numbers; expected at least two"),
    ],
)
def test_a_file_without_points_is_refused_with_the_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        proposed(tmp_path / "a.csv")


def test_more_components_than_points_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y", ["1,2", "3,4", "5,7"])
    with pytest.raises(DataError, match="has 3 points for 9 components; give a smaller -k"):
        propose(path, TableOptions(), n_components=9)


@pytest.mark.parametrize(
    ("path", "name"),
    [("x/Sensors 2026.csv.gz", "Sensors-2026"), ("ä.csv", "points"), (".csv", "csv")],
)
def test_the_name_of_the_model_is_that_of_the_file(path: str, name: str) -> None:
    assert model_name(Path(path)) == name


def test_unit_vectors_get_the_metric_cosine(tmp_path: Path) -> None:
    X, _ = directions(800, 4, 20)
    np.save(tmp_path / "raw.npy", X)
    np.save(tmp_path / "unit.npy", np.round(unit(X), 5).astype(np.float32))
    found = proposed(tmp_path / "unit.npy")
    assert (found.metric, found.scale, found.n_components) == ("cosine", "none", 4)
    assert found.model["metric"] == "cosine"
    assert "unit vectors" in found.remarks["metric"]
    assert proposed(tmp_path / "raw.npy").metric == "euclidean"
    given = propose(tmp_path / "raw.npy", TableOptions(), metric="cosine")
    assert (given.metric, given.n_components) == ("cosine", 4)
    assert "metric" not in given.remarks
    plain = propose(tmp_path / "unit.npy", TableOptions(), metric="euclidean")
    assert "metric" not in plain.model
    with pytest.raises(DataError, match="--metric cosine is for kind kmeans"):
        propose(tmp_path / "raw.npy", TableOptions(), metric="cosine", kind="gaussian_mixture")
