"""Names and streams with placeholders, such as ``clicks-{tenant}`` and ``clicks:{tenant}``.

A placeholder stands for one or more characters. The value of a placeholder comes from the name of a
stream, so a producer chooses it. `NamePattern` makes a model's name of it: different values give
different names, and a name is made of letters, digits, ``_``, ``.`` and ``-`` only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

MAX_CHARACTERS = 200
"""Maximum characters of a model's name that is made of a stream's name."""

_PART = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")
_ESCAPED = re.compile(r"_x((?:[0-9A-F]{2})+)_")
_NAME_ENDS = ("-", ".")
"""The characters that can separate two placeholders of a name; no escape contains them."""


def has_placeholder(name: str) -> bool:
    """Return whether the name of a model is meant as a template."""
    return "{" in name or "}" in name


@dataclass(frozen=True)
class StreamPattern:
    """The name of a stream with placeholders; ``{{`` and ``}}`` stand for braces.

    Parameters
    ----------
    text : str
        The name, as in the settings.
    literals : tuple of str
        The texts before, between and after the placeholders.
    placeholders : tuple of str
        The names of the placeholders, in order.

    Examples
    --------
    >>> pattern = StreamPattern.parse("clicks:{tenant}")
    >>> pattern.match("clicks:acme"), pattern.fill({"tenant": "acme"})
    ({'tenant': 'acme'}, 'clicks:acme')
    """

    text: str
    literals: tuple[str, ...]
    placeholders: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pattern of a text.

        Raises
        ------
        ValueError
            If a brace has no partner, or a placeholder occurs twice or next to another one.
        """
        literals, placeholders, end = [""], [], 0
        for found in _PART.finditer(text):
            literals[-1] += text[end : found.start()]
            end = found.end()
            if found[1]:
                placeholders.append(found[1])
                literals.append("")
            elif len(found[0]) == 2:
                literals[-1] += found[0][0]
            else:
                raise ValueError(
                    f"{text!r} has a single {found[0]!r}; write a placeholder as {{tenant}}, "
                    f"and a brace as {found[0] * 2}"
                )
        literals[-1] += text[end:]
        for name in placeholders:
            if placeholders.count(name) > 1:
                raise ValueError(f"{text!r} has {{{name}}} twice; remove one")
        for (first, second), between in zip(pairwise(placeholders), literals[1:-1], strict=True):
            if not between:
                raise ValueError(
                    f"{text!r} has {{{first}}} next to {{{second}}}; put a character between them"
                )
        return cls(text, tuple(literals), tuple(placeholders))

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with these values of the placeholders."""
        texts = [self._written(number, values[key]) for number, key in enumerate(self.placeholders)]
        return "".join(map("".join, zip(self.literals, [*texts, ""], strict=True)))

    def match(self, text: str) -> dict[str, str] | None:
        """Return the values of the placeholders in a text; None if the text doesn't match."""
        found = self._expression.fullmatch(text)
        if found is None:
            return None
        values = {
            key: self._read(value)
            for key, value in zip(self.placeholders, found.groups(), strict=True)
        }
        return values if self.fill(values) == text else None

    @property
    def glob(self) -> str:
        """The pattern for the server's SCAN; it may match more names than `match`."""
        return "*".join(re.sub(r"([*?\[\]\\^])", r"\\\1", part) for part in self.literals)

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        """All values but the last one end at the first character of the text after them."""
        ends = [f"[^{re.escape(text[0])}]+" for text in self.literals[1:-1]]
        values = [f"({end})" for end in [*ends, ".+"]][: len(self.placeholders)]
        texts = map(re.escape, self.literals)
        return re.compile("".join(map("".join, zip(texts, [*values, ""], strict=True))), re.DOTALL)

    def _written(self, _number: int, value: str) -> str:
        return value

    def _read(self, text: str) -> str:
        return text


class NamePattern(StreamPattern):
    """The name of a template: the names of its models, with the values of the placeholders.

    A character that a name can't have is written as ``_x``, its UTF-8 bytes in hexadecimal, and
    ``_``. So different values have different names, and a name has one value.

    Examples
    --------
    >>> pattern = NamePattern.parse("price-{symbol}")
    >>> pattern.fill({"symbol": "BTC-USD"}), pattern.fill({"symbol": "BTC/USD"})
    ('price-BTC-USD', 'price-BTC_x2F_USD')
    >>> pattern.match("price-BTC_x2F_USD")
    {'symbol': 'BTC/USD'}
    """

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pattern of a name; see `StreamPattern.parse`."""
        pattern = super().parse(text)
        if not all(re.fullmatch(r"[A-Za-z0-9_.-]*", part) for part in pattern.literals):
            raise ValueError(
                "expected letters, digits, _, . and - around placeholders such as {tenant}"
            )
        for key, between in zip(pattern.placeholders, pattern.literals[1:-1], strict=False):
            if not between.startswith(_NAME_ENDS):
                raise ValueError(f"write - or . after {{{key}}}, so that its value has an end")
        return pattern

    def _written(self, number: int, value: str) -> str:
        refused = r"[^A-Za-z0-9_.-]"
        if number < len(self.placeholders) - 1:
            refused = rf"[^A-Za-z0-9_.-]|{re.escape(self.literals[number + 1][0])}"
        if number == 0 and not self.literals[0]:
            refused += r"|\A-"  # a name that begins with - would be an option of a command
        escaped = rf"(?:{refused})+|_(?=x[0-9A-F]{{2}})"
        return re.sub(escaped, lambda found: f"_x{found[0].encode().hex().upper()}_", value)

    def _read(self, text: str) -> str:
        def decoded(found: re.Match[str]) -> str:
            return bytes.fromhex(found[1]).decode(errors="replace")

        return _ESCAPED.sub(decoded, text)
