"""Heads of versions: the facts of a version, from its first bytes and the masses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust.errors import FormatError
from streamclust.formats.model import encode_model
from streamclust.formats.model_head import decode_head
from streamclust.models import GaussianMixture, KMeans
from tests.support.states import a_model


@pytest.mark.parametrize("family", [KMeans(3), KMeans(1), GaussianMixture(3)], ids=repr)
@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(
    "facts", [{}, {"version": 1, "loss": None, "time_ms": None, "model_id": 42}]
)
def test_a_head_has_the_facts_of_its_version(
    family: Any, is_whole: bool, facts: dict[str, Any]
) -> None:
    model = a_model(family, **facts)
    data, mass = encode_model(model), model.mass.tobytes() + b"other"
    head = decode_head(
        *((data, len(data), b"") if is_whole else (data[:-8], len(data), mass)),
        *(model.name, "key"),
        model_id=model.model_id,
    )
    for name in ("name", "version", "kind", "points", "score_name", "score", "time_ms", "model_id"):
        assert getattr(head, name) == getattr(model, name), name
    assert head.shape == model.means.shape
    assert head.mass.tolist() == model.mass.tolist()
    found, expected = head.summary(), model.summary()
    assert {name: found[name] for name in expected} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in expected.items()
    }


@pytest.mark.parametrize("mass", [b"", bytes(16), bytes(32)])
def test_masses_of_another_shape_are_refused(mass: bytes) -> None:
    data = encode_model(a_model(KMeans(3)))
    with pytest.raises(FormatError, match=r"key holds a damaged model: .* wrong shape"):
        decode_head(data[:-8], len(data), mass, "palette", "key")
    assert decode_head(data[:-8], len(data), bytes(24), "palette", "key").mass.sum() == 0.0


def test_one_component_and_one_feature_are_enough() -> None:
    family = KMeans(1)
    params = family.from_arrays({"centroids": np.ones((1, 1))})
    model = a_model(family, params=params, features=(), mass=np.ones(1))
    data = encode_model(model)
    assert decode_head(data, len(data), b"", "palette", "key").shape == (1, 1)
