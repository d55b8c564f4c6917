"""Folds of e-steps over parts of data."""
