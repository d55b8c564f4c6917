"""Names of fields in `:codes`, which the settings need without NumPy."""

TOP_VALUES = {"kmeans": "top_distance", "gaussian_mixture": "top_responsibility"}
"""Kind of a family -> the field that holds the values of the `top` components."""

CODE_FIELDS = (
    *("n", "code", "distance", "version", "m", "top"),
    *sorted(TOP_VALUES.values()),
    *("reason", "model_id", "similarity"),
)
"""Fields of `:codes` that streamclust writes."""
