"""Names of models made of names of streams: different streams have different models."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.config.placeholders import NamePattern, StreamPattern

VALUES = st.text(st.sampled_from("ab-._x2F/é*{}:\n A41\0"), min_size=1, max_size=8) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1
)


@given(VALUES)
def test_each_value_has_a_name_of_its_own(value: str) -> None:
    for text in ("{tenant}", "clicks-{tenant}", "{tenant}.x"):
        pattern = NamePattern.parse(text)
        name = pattern.fill({"tenant": value})
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
        assert not name.startswith("-")
        assert pattern.match(name) == {"tenant": value}


@given(VALUES, VALUES)
def test_two_values_have_one_name_only_if_they_are_the_same_two(a: str, b: str) -> None:
    for text in ("{a}-{b}", "m.{a}.{b}-x"):
        pattern = NamePattern.parse(text)
        assert pattern.match(pattern.fill({"a": a, "b": b})) == {"a": a, "b": b}


@given(st.text(st.sampled_from("clik-_x2F4")))
def test_a_name_has_one_value(name: str) -> None:
    pattern = NamePattern.parse("cl-{tenant}")
    values = pattern.match(name)
    assert values is None or pattern.fill(values) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("acme", "p-acme"),
        ("BTC-USD.1_x", "p-BTC-USD.1_x"),
        ("BTC/USD", "p-BTC_x2F_USD"),
        ("köln", "p-k_xC3B6_ln"),
        ("a://b", "p-a_x3A2F2F_b"),
        ("BTC_x2F_USD", "p-BTC_x5F_x2F_USD"),
    ],
)
def test_most_values_can_be_recognized_in_the_name(value: str, name: str) -> None:
    assert NamePattern.parse("p-{symbol}").fill({"symbol": value}) == name


@pytest.mark.parametrize(
    ("pattern", "stream", "values"),
    [
        ("clicks:{t}", "clicks:acme", {"t": "acme"}),
        ("clicks:{t}", "clicks:a:b", {"t": "a:b"}),
        ("clicks:{t}", "clicks:", None),
        ("clicks:{t}", "click:acme", None),
        ("clicks:{t}", "clicks:a\nb", {"t": "a\nb"}),
        ("{{{t}}}:clicks", "{acme}:clicks", {"t": "acme"}),
        ("{r}:{t}:clicks", "eu:a:b:clicks", {"r": "eu", "t": "a:b"}),
        ("[a]*{t}", "[a]*x", {"t": "x"}),
        ("[a]*{t}", "ax", None),
    ],
)
def test_a_pattern_matches_whole_names(
    pattern: str, stream: str, values: dict[str, str] | None
) -> None:
    assert StreamPattern.parse(pattern).match(stream) == values


def test_the_pattern_for_the_server_has_other_characters_escaped() -> None:
    assert StreamPattern.parse(r"a*[b]?\{{{t}}}:{u}").glob == r"a\*\[b\]\?\\{*}:*"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a{t", "a single '{'; write a placeholder as {tenant}, and a brace as {{"),
        ("a}", "a single '}'"),
        ("{}", "a single '{'"),
        ("{a b}", "a single '{'"),
        ("{t}:{t}", "{t} twice"),
        ("{t}{u}", "{t} next to {u}"),
    ],
)
def test_a_wrong_pattern_names_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        StreamPattern.parse(text)


@pytest.mark.parametrize("text", ["a:{t}", "{{a}}-{t}", "a {t}", "{t}_{u}"])
def test_a_name_allows_less(text: str) -> None:
    with pytest.raises(ValueError, match=r"letters, digits|write - or \. after"):
        NamePattern.parse(text)
