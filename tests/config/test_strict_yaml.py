"""Settings are read by libyaml where it is installed, as PyYAML's own parser reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamclust.config import strict_yaml
from streamclust.errors import ConfigError

TEXT = """\
defaults: &d {n_clusters: 3, seed: 7}
models:
  m:
    <<: *d
    streams: [a, 'it''s', "b\\n"]
    forgetting: {kind: time, half_life: 1e-6}
    note: two
      lines
  # none
  n: ~
"""
PIECES = [
    *" \n\t:-{}[],&*#|>'\"?!%@`é\r\ufeff\u2028\x00",
    "  ",
    ": ",
    "- ",
    "\n---\n",
    "*d",
    "<<: ",
]

edits = st.lists(
    st.tuples(st.integers(0, len(TEXT)), st.integers(0, 3), st.sampled_from(PIECES)),
    min_size=1,
    max_size=3,
)


def result(read: Callable[[str, str], Any], text: str) -> tuple[str, Any]:
    """Return what a text means, or why it is refused."""
    try:
        return "read", read("config.yaml", text)
    except ConfigError as error:
        return "refused", str(error)


@settings(max_examples=60)
@given(edits)
@example([])
@example([(9, 0, "\ud800")])
def test_both_parsers_read_the_same(edits: list[tuple[int, int, str]]) -> None:
    if not yaml.__with_libyaml__:
        pytest.skip("this PyYAML is without libyaml")
    text = TEXT
    for place, length, piece in edits:
        text = text[:place] + piece + text[place + length :]
    found = result(strict_yaml.parse_with_lines, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_yaml, "_NativeLoader", None)
        assert result(strict_yaml.parse_with_lines, text) == found
