from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamclust import kernels


@pytest.fixture(params=kernels.available())
def each_kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every kernel that can run here, forced in turn."""
    with kernels.using(request.param):
        yield request.param


@pytest.fixture(params=[name for name in kernels.available() if name != "numpy"])
def native_kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """The native ones."""
    with kernels.using(request.param):
        yield request.param
