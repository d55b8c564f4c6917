"""Names of fields in `:codes`. The settings import them, so this module doesn't import NumPy."""

TOP_VALUES = {"kmeans": "top_distance", "gaussian_mixture": "top_responsibility"}
"""Kind of a family -> the field with the values of the `top` components."""

SCORE_KINDS = {
    "log_density": "gaussian_mixture",
    "mahalanobis": "gaussian_mixture",
    "scaled_distance": "kmeans",
}
"""Score of `encode.score` that only one kind of family has -> this kind."""

SCORE_FIELDS = (*SCORE_KINDS, "tail_score", "quantile")
"""Fields of the scores that `encode.score` adds to the codes."""

CODE_FIELDS = (
    *("n", "code", "distance", "version", "m", "top"),
    *sorted(TOP_VALUES.values()),
    *("reason", "model_id", "similarity"),
    *SCORE_FIELDS,
)
"""Fields of `:codes` that streamclust writes."""
