"""Streams of points: reading, gaps, batches, lag, trimming, positions."""
