"""The first settings file of a user: one model, and examples of the settings to change next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamclust.config.commented import commented
from streamclust.config.load import parse_settings
from streamclust.config.strict_yaml import Keys
from streamclust.models import FAMILIES
from streamclust.models.family import by_kind, size_name

_EXAMPLES: dict[str, Any] = {
    "points": {"features": ["temperature", "load"]},
    "forgetting": {"kind": "points", "half_life": 100_000},
    "encode": True,
    "anomaly": {"rate": 0.001},
    "publish": {"every": "5s"},
    "trim": {"kind": "age", "age": "7d"},
    "drift": {"detector": "page_hinkley"},
}


def starter_file(
    name: str,
    model: Mapping[str, Any],
    notes: Mapping[str, str] | None = None,
    url: str = "embedded",
) -> str:
    """Return a commented settings file with one model.

    Parameters
    ----------
    name : str
        Name of the model.
    model : mapping
        Settings of the model, as in a file; ``n_components`` stands for K in all kinds.
    notes : mapping of str to str, optional
        A comment for a key of the model.
    url : str, default='embedded'
        The server.

    Raises
    ------
    ConfigError
        If the settings are wrong.
    """
    size = size_name(by_kind(FAMILIES, model["kind"], "FAMILIES"))
    chosen = {size if key == "n_components" else key: value for key, value in model.items()}
    sizes = {f"{size}_range": [2, 50]} if chosen[size] == "auto" else {}
    examples = {key: value for key, value in (sizes | _EXAMPLES).items() if key not in chosen}
    by_path: dict[Keys, str] = {
        ("models", name, size if key == "n_components" else key): note
        for key, note in (notes or {}).items()
        if note
    }
    server = {"data_dir": ".streamclust"} if url == "embedded" else {}
    text = commented(
        {"redis": {"url": url}, "models": {name: chosen}},
        {"redis": server, "models": {name: examples}, "log": {"level": "info"}},
        by_path,
    )
    parse_settings(text)
    return text
