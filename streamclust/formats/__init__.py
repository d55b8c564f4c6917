"""Bytes to objects and back, without a connection: points, models, states, codes."""
