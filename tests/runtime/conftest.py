"""The folder and server that the tests of the worker have."""

from tests.worker.conftest import site

__all__ = ["site"]
