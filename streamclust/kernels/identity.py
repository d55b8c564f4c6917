"""The identity of the kernels: kernels with equal identities return equal bits."""

from __future__ import annotations

import platform
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from streamclust.kernels import native
from streamclust.kernels.choice import NUMPY, kernels_in_use

_KMEANS = "kmeans sums 2"
"""The definition of the sums of K-means for all kernels. A change increases the number."""

_SAME_MIXTURES = {"avx512vnni": "avx512"}
"""Target -> the target with the same code for mixtures."""


class Identity(NamedTuple):
    """What determines the bits of the kernels' results, for each kind of model.

    Sums from two processes may be added only if both have the same identity. Otherwise the result
    would depend on which process computed which part.

    Parameters
    ----------
    kmeans : str
        The definition of the sums. All targets and NumPy return the same bits.
    mixture : str
        The target, the sources, the compiler and the C library. Targets with vectors of another
        width, or without fused multiplication, round differently. For NumPy: the versions of NumPy
        and of its BLAS, and the kind of processor that BLAS has detected.
    """

    kmeans: str
    mixture: str


def identity() -> Identity:
    """Return the identity of the kernels in use."""
    kernels = kernels_in_use()
    if isinstance(kernels, native.Native):
        target = _SAME_MIXTURES.get(kernels.name, kernels.name)
        sources, compiler = native.sources(kernels.library), native.compiler(kernels.library)
        return Identity(_KMEANS, f"{target}, sources {sources[:16]}, {compiler}, {_c_library()}")
    return Identity(_KMEANS, f"{NUMPY} {np.__version__}, {_blas()}")


@lru_cache
def _c_library() -> str:
    return " ".join(part for part in platform.libc_ver() if part) or platform.platform()


@lru_cache
def _blas() -> str:
    """Return the BLAS of NumPy and SciPy; other libraries may have loaded another one."""
    import scipy.linalg.lapack  # noqa: F401  # imported here, as in `twin`
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    of_numpy = [pool for pool in pools if re.search("(numpy|scipy)[^/]*/", pool["filepath"])]
    names = {
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".rstrip()
        for pool in of_numpy or pools
    }
    return ", ".join(sorted(names)) or "unknown BLAS"
