"""Refits from the coreset: of all that was learned, though the stream holds none of it any more."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust import KMeans, fit
from streamclust.errors import DataError
from streamclust.refit.command import Selection
from streamclust.refit.span import Span
from tests.support.points import blobs
from tests.support.refit_helpers import poor_workspace, refit
from tests.support.workers import drain
from tests.support.workspace import Workspace

CORESET = Selection(Span(), from_coreset=True)


@pytest.mark.parametrize("coreset", [{}, {"points": 150}], ids=["whole", "condensed"])
def test_what_was_trimmed_is_remembered(workspace: Workspace, coreset: dict[str, int]) -> None:
    # Given a model that learned poorly, and whose stream was trimmed since
    X = blobs(600)
    drain(poor_workspace(workspace, X, coreset=coreset))
    with workspace.client as client:
        client.xtrim(workspace.stream(), maxlen=0)
    before = workspace.newest("m")
    # When it is refitted from its coreset
    report = refit(workspace, selection=CORESET)
    # Then it is as good as a fit of all points
    assert report.better
    assert report.delivered is not None
    after = workspace.newest("m")
    best = fit(KMeans(3), X).loss
    assert np.mean(KMeans(3).score_points(after.params, X)) == pytest.approx(best, rel=0.02)
    assert after.mass.sum() == pytest.approx(600)
    assert (after.points, after.position) == (before.points, before.position)


def test_without_a_coreset_there_is_nothing_to_refit_from(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300), coreset={"points": 0}))
    with pytest.raises(DataError, match="has no coreset"):
        refit(workspace, selection=CORESET)
