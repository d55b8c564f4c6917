"""The demonstration on real data that ``streamclust demo`` and ``make demo`` run."""
