"""Files in installed packages, read without importing the packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click


def packaged_text(package: str, *path: str) -> str:
    """Return the text of a file in an installed package.

    Raises
    ------
    click.ClickException
        If the package isn't installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise click.ClickException(
            f"{package} isn't installed; pip install '.[examples]' in a clone"
        )
    return Path(spec.origin).parent.joinpath(*path).read_text(encoding="utf-8")
