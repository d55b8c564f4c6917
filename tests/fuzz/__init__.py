"""Bytes that nobody meant: points, states, models and settings that are wrong in every way."""
