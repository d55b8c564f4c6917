"""The Python clients, and ingestion of points into a stream."""

from streamclust.client.client import Client

__all__ = ["Client"]
