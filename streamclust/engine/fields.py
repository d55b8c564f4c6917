"""Named arrays and plain values: the form in which tasks, parts and results are sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Fields:
    """Named arrays, and values for JSON.

    Parameters
    ----------
    arrays : dict of str to array
    values : dict of str to object
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
