"""The proposal for a file: kind of model, scale, number of components, format of the entries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import Metric
from streamclust.errors import DataError
from streamclust.formats.layout import EntryFormat
from streamclust.models.directions import normalized
from streamclust.quickstart.first_rows import MAX_NAMED_FEATURES, FirstRows, read_first_rows
from streamclust.quickstart.size import (
    ScaleKind,
    Size,
    propose_kind,
    propose_metric,
    propose_scale,
    propose_size,
)
from streamclust.tables import TableOptions

if TYPE_CHECKING:
    from streamclust.engine import Engine

_MAX_NAMES = 64
"""Largest number of feature names in the settings."""

_WARM_UP = 1000
"""Number of points of the default warm-up. A file with fewer points needs `init.points`."""

_BLOCK_POINTS, _BLOCK_BYTES = 1024, 1 << 20
"""Largest block of raw numbers."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """How to cluster a file.

    Parameters
    ----------
    name : str
        Name of the model and of the stream.
    rows : FirstRows
    kind : 'kmeans' or 'gaussian_mixture'
    is_heavy : bool
        Whether a few far points have most of the variance.
    scale : 'none', 'standard' or 'robust'
    size : Size or None
        The comparison of numbers of components; None if the user has set the number.
    n_components : int
    metric : 'euclidean' or 'cosine'
    is_metric_given : bool
        Whether the user has set the metric.
    """

    name: str
    rows: FirstRows
    kind: str
    is_heavy: bool
    scale: ScaleKind
    size: Size | None
    n_components: int
    metric: Metric = "euclidean"
    is_metric_given: bool = False

    @property
    def format(self) -> EntryFormat:
        """Format of the entries: named fields, or raw numbers for many or unnamed features."""
        if self.rows.are_named and len(self.rows.features) <= MAX_NAMED_FEATURES:
            return "fields"
        return "float32" if self.rows.X.dtype == "float32" else "float64"

    @property
    def block(self) -> int:
        """Points per entry."""
        options = self.rows.options
        if self.format == "fields" or options.label_columns or options.time_column:
            return 1
        return max(1, min(_BLOCK_POINTS, _BLOCK_BYTES // (8 * len(self.rows.features))))

    @property
    def model(self) -> dict[str, Any]:
        """The settings of the model, as in a settings file."""
        rows = self.rows
        settings: dict[str, Any] = {
            "kind": self.kind,
            "n_components": self.n_components,
            "streams": [self.name],
            "scale": self.scale,
        }
        if self.metric == "cosine":
            settings["metric"] = self.metric
        points: dict[str, Any] = {}
        if rows.are_named and len(rows.features) <= _MAX_NAMES:
            points["features"] = list(rows.features)
        if rows.options.weight_column:
            points["weight_field"] = rows.options.weight_column
        if rows.options.missing == "learn":
            points["missing"] = "learn"
        if points:
            settings["points"] = points
        if rows.is_complete and len(rows.X) < max(_WARM_UP, 10 * self.n_components):
            settings["init"] = {"points": len(rows.X)}
        if rows.options.label_columns:
            settings["encode"] = {"labels": list(rows.options.label_columns)}
        return settings

    @property
    def remarks(self) -> dict[str, str]:
        """Setting -> the reason for its value."""
        reasons = {"scale": _SCALES[self.scale]}
        if self.metric == "cosine":
            reasons["scale"] = "Only the directions of points count."
            if not self.is_metric_given:
                reasons["metric"] = "All points of the file are unit vectors."
        if self.size is not None:
            reasons["n_components"] = _size_remark(self.size, self.n_components)
        if self.kind == "gaussian_mixture":
            reasons["scale"] = "Full covariances need no scale."
            if self.is_heavy:
                reasons["kind"] = (
                    "A few far points have most of the variance; in K-means they would take the "
                    "centroids."
                )
        if rows_with_gaps := int(np.isnan(self.rows.X).any(axis=1).sum()):
            reasons["points"] = f"{rows_with_gaps:,} rows of the file have missing values."
        if "init" in self.model:
            reasons["init"] = f"The file has only {len(self.rows.X):,} points."
        return reasons


_SCALES = {
    "none": "The features of the file have similar spreads.",
    "standard": "The spreads of the features in the file differ by more than a factor of 5.",
    "robust": "The spreads of the features in the file differ, and some points are far away.",
}


def _size_remark(size: Size, chosen: int) -> str:
    if not size.bic:
        return "The file has too few points to compare values of K."
    numbers = list(size.bic)
    tested = f"K from {numbers[0]} to {numbers[-1]}, on {size.points:,} points of the file"
    if size.n_components < chosen:
        return f"The BIC is lowest at 1, so the file may have no clusters ({tested})."
    if chosen == numbers[-1]:
        return (
            f"{chosen} is the largest K that was tried ({tested}), and the BIC still falls. To try "
            "more, use -k or `streamclust select --k`."
        )
    if size.lowest == chosen:
        return f"Lowest BIC ({tested})."
    return (
        f"The smallest K with 98 % of the fall of the BIC, which is lowest at {size.lowest} "
        f"({tested})."
    )


def propose(
    path: Path,
    options: TableOptions,
    *,
    name: str | None = None,
    kind: str | None = None,
    n_components: int | None = None,
    metric: Metric | None = None,
    engine: Engine | None = None,
) -> Proposal:
    """Return the proposal for a file.

    Parameters
    ----------
    path, options : Path and TableOptions
        The file, and the options that the user has set; they aren't changed.
    name : str, optional
        Name of the model. Default: derived from the name of the file.
    kind : 'kmeans' or 'gaussian_mixture', optional
        Default: a mixture if a few far points have most of the variance, else K-means.
    n_components : int, optional
        Default: by the BIC, at least 2.
    metric : 'euclidean' or 'cosine', optional
        Default: cosine for unit vectors, else euclidean.
    engine : Engine, optional
        Computes the fits that compare numbers of components.

    Raises
    ------
    DataError
        If the file has too few rows or no feature, or if the options contradict each other.
    """
    if metric == "cosine" and kind == "gaussian_mixture":
        raise DataError("--metric cosine is for kind kmeans; remove --model-kind or --metric")
    learns_missing = options.missing == "learn"
    if metric == "cosine" and learns_missing:
        raise DataError("--metric cosine needs all values of a point; remove --missing or --metric")
    rows = read_first_rows(path, options)
    if n_components is not None and rows.is_complete and n_components > len(rows.X):
        raise DataError(
            f"{path} has {len(rows.X)} points for {n_components} components; give a smaller -k"
        )
    sample = rows.complete_sample()
    fixed_kind = kind or ("kmeans" if metric == "cosine" else None)
    proposed_kind = "kmeans" if rows.is_wide else propose_kind(sample)
    chosen_metric: Metric = "euclidean"
    if fixed_kind != "gaussian_mixture":
        chosen_metric = metric or ("euclidean" if learns_missing else propose_metric(sample))
    if chosen_metric == "cosine":
        sample = np.asarray(normalized(sample[sample.any(axis=1)]), np.float64)
        fixed_kind = proposed_kind = "kmeans"
    chosen_kind = fixed_kind or proposed_kind
    # Covariances need no scale, and neither do unit vectors.
    scaled = not rows.is_wide and chosen_kind == "kmeans" and chosen_metric == "euclidean"
    scale = propose_scale(sample) if scaled else "none"
    size = None if n_components else propose_size(sample, chosen_kind, scale, engine)
    K = n_components or max(2, 0 if size is None else size.n_components)
    name, is_heavy, is_given = name or model_name(path), proposed_kind != "kmeans", bool(metric)
    return Proposal(name, rows, chosen_kind, is_heavy, scale, size, K, chosen_metric, is_given)


def model_name(path: Path) -> str:
    """Return a name for the model of a file, with the characters that names may have.

    Examples
    --------
    >>> model_name(Path("data/Sensors 2026.csv.gz")), model_name(Path("ä.csv"))
    ('Sensors-2026', 'points')
    """
    stem = path.name.split(".")[0] or path.name
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-") or "points"
