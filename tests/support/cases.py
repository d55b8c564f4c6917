"""Many small cases in one test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import signature
from typing import Any

Test = Callable[..., None]


def cases(names: str, values: Iterable[Any]) -> Callable[[Test], Test]:
    """Call the test with each value in turn. A failure names the values of its case.

    For cases that are much shorter than what pytest does for a test: fixtures, reports, and the
    collection of tests in each process. All cases of a test share its fixtures.

    Parameters
    ----------
    names : str
        One parameter, or several separated by commas, as of `pytest.mark.parametrize`.
    values : iterable
        One value per case, or one tuple of values.
    """
    keys = [name.strip() for name in names.split(",")]
    chosen = [dict(zip(keys, each if len(keys) > 1 else (each,), strict=True)) for each in values]

    def decorate(test: Test) -> Test:
        @wraps(test)
        def all_cases(**fixtures: Any) -> None:
            for case in chosen:
                try:
                    test(**fixtures, **case)
                except BaseException as error:
                    error.add_note(f"case: {case}")
                    raise

        shape = signature(test)
        kept = [each for name, each in shape.parameters.items() if name not in keys]
        all_cases.__signature__ = shape.replace(parameters=kept)  # type: ignore[attr-defined]
        return all_cases

    return decorate
