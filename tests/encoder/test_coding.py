"""Codes are the same, however the entries were taken off the connection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import GaussianMixture, MixtureParams, kernels
from streamclust.encoder.coding import Coder
from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.points import encode
from streamclust.store.reply.packed_codes import PackedCodes
from tests.support.encoder_fixture import CENTROIDS, model_of
from tests.support.replies import needs_native, packed

pytestmark = needs_native


@pytest.mark.parametrize("top", [1, 3])
@pytest.mark.parametrize("block", [1, 4])
def test_of_packed_entries_as_of_lists(block: int, top: int) -> None:
    # Given points, labels, and bad entries at the beginning and later
    X = np.random.default_rng(0).normal(size=(40, 2))
    X[13] = np.nan
    flats = list(encode(X, Layout("json", "json", None, (), 2, strict=False), block=block))
    flats = [[*flat, b"label", b"%d" % n] for n, flat in enumerate(flats)]
    flats[0:0] = [[b"json", b"[1"], [b"x", b"1"]]
    flats[7:7] = [[b"json", b"[1,2,3]"]]
    entries = [(b"%d-%d" % (n, n % 3), flat) for n, flat in enumerate(flats, 1)]
    # Then each entry has the same codes, reasons and labels
    as_lists = Coder(PointsFormat(), top, ("label",))(entries, model_of(1))
    as_packed = Coder(PointsFormat(), top, ("label",))(packed(entries), model_of(1))
    assert as_packed == as_lists
    assert as_lists.bad == 3 + 1
    assert [entry_id for entry_id, _ in as_lists.entries] == [entry_id for entry_id, _ in entries]


@pytest.mark.parametrize("labels", [(), ("label",)])
def test_of_packed_points_that_are_all_good(labels: tuple[str, ...]) -> None:
    X = np.random.default_rng(0).normal(size=(40, 2))
    flats = encode(X, Layout("fields", None, None, ("x", "y"), 2, strict=False))
    entries = [
        (b"%d-0" % n, [b"label", b"%d" % (n % 3), *flat, b"other", b"1"])
        for n, flat in enumerate(flats, 1)
    ]
    spec = PointsFormat(features=("x", "y"))
    as_lists = Coder(spec, 1, labels)(entries, model_of(1))
    as_packed = Coder(spec, 1, labels)(packed(entries), model_of(1))
    assert isinstance(as_packed.entries, PackedCodes)
    assert list(as_packed.entries) == as_lists.entries
    assert as_packed.points == as_lists.points == 40


def test_bad_points_of_a_block_have_no_code_in_their_places() -> None:
    # Given a good entry, then a block of which every third point is NaN, and one of nothing else
    X = np.random.default_rng(0).normal(size=(300_000, 2))
    X[::3] = np.nan
    bad = np.full_like(X, np.nan)
    flats = [[b"f8", each.tobytes(), b"d", b"2"] for each in (X[1:2], X, bad)]
    coded = Coder(PointsFormat(), 1, ())(
        packed([(b"%d-0" % n, flat) for n, flat in enumerate(flats, 1)]), model_of(1)
    )
    # Then counts and places are exact, and the reason is that of the first
    assert (coded.points, coded.bad) == (1 + 200_000, 100_000 + 300_000)
    for (_, flat), values in zip(coded.entries[1:], (X, bad), strict=True):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        codes = np.frombuffer(fields[b"code"], "<i4")
        assert ((codes == -1) == np.isnan(values[:, 0])).all()
        assert fields[b"reason"].startswith(b"not finite: nan at feature 0; points.missing: learn")


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("gaps", [False, True])
def test_codes_with_scores_need_one_computation_of_the_densities(
    top: int, gaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = MixtureParams(np.full(3, 1 / 3), CENTROIDS, np.stack([np.eye(2)] * 3), "full")
    family = GaussianMixture(3, missing="learn" if gaps else "reject")
    model = replace(model_of(1, features=("x", "y")), family=family, params=params)
    X = 3.0 * np.random.default_rng(0).normal(size=(40, 2))
    if gaps:
        X[::3, 1] = np.nan
    flats = encode(X, Layout("fields", None, None, ("x", "y"), 2, strict=False))
    entries = [(b"%d-0" % n, [*flat]) for n, flat in enumerate(flats, 1)]
    spec = PointsFormat(features=("x", "y"), missing=family.missing)
    points: list[int] = []
    log_gaussians = kernels.log_gaussians

    def counted(X: Any, *mixture: Any) -> Any:
        points.append(len(X))
        return log_gaussians(X, *mixture)

    monkeypatch.setattr(kernels, "log_gaussians", counted)
    names = ("log_density", "quantile")
    coded = Coder(spec, top, (), scores=names)(packed(entries), model)
    assert points == [int((~np.isnan(X).any(axis=1)).sum())]
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in list(coded.entries)]
    found = [float(each[b"log_density"]) for each in fields]
    assert_allclose(found, family.score_points(params, X), rtol=1e-5)
