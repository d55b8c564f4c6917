"""Batch fits: EM, restarts, searches for better optima, the choice of K."""
