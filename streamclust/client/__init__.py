"""The Python clients, and points into a stream."""

from streamclust.client.client import Client

__all__ = ["Client"]
