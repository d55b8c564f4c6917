"""Names that the settings need without NumPy."""

CODE_FIELDS = (
    "n",
    "code",
    "distance",
    "version",
    "m",
    "top",
    "top_distance",
    "top_responsibility",
    "reason",
    "model_id",
)
"""Fields of `:codes` that streamclust writes."""
