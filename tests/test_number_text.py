"""What is said of a text that was meant as a number: real representations, of real objects."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import redis

from streamclust.formats.detection import guess_layout
from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.points import decode
from streamclust.number_text import json_hint, number_hint

FIELDS = Layout("fields", None, "w", ("x", "y"), 2, strict=True)
JSON = Layout("json", "json", None, ("x", "y"), 2, strict=False)
X = np.array([1.5, 2.5])


def reason(flat: list[bytes], layout: Layout) -> str:
    [dead] = decode([(b"1-0", flat)], layout).dead
    return dead.reason


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("np.float64(1.5)", "a NumPy number: send float(x)"),
        ("np.float32(1.5)", "a NumPy number: send float(x)"),
        ("np.int64(-3)", "a NumPy number: send float(x)"),
        ("tensor(1.5)", "an array: send json.dumps(x.tolist())"),
        ("torch.tensor([1.5])", "an array: send json.dumps(x.tolist())"),
        (repr(X), "an array: send json.dumps(x.tolist())"),
        (str(X), "the text of a NumPy array: send json.dumps(x.tolist())"),
        (str(np.array([1e-9, 2.0])), "the text of a NumPy array: send json.dumps(x.tolist())"),
        (repr(Decimal("1.5")), "a Python object: send float(x)"),
        (repr(Fraction(1, 3)), "a Python object: send float(x)"),
        ("1,5", "a number with a comma: write 1234.5"),
        ("-1.234,5", "a number with a comma: write 1234.5"),
        ("1,234.5", "a number with a comma: write 1234.5"),
        (str(True), "a truth value: send 1 or 0"),
        (str(None), "no value: leave the point out"),
        (str([1.5, 2.5]), "a list: send a number per field, or a JSON array in one field"),
        (str((1.5, 2.5)), "a list: send a number per field, or a JSON array in one field"),
        (repr("1.5"), "a number in quotes: send it without them"),
        (repr(b"1.5"), "a number in quotes: send it without them"),
    ],
)
def test_a_field_that_holds_a_representation_says_how_to_send_the_number(
    value: str, hint: str
) -> None:
    text = value.encode()
    as_feature = reason([b"x", text, b"y", b"2", b"w", b"1"], FIELDS)
    assert as_feature.startswith("x=")
    assert hint in as_feature
    as_weight = reason([b"x", b"1", b"y", b"2", b"w", text], FIELDS)
    assert as_weight.startswith("weight ")
    assert as_weight.endswith(hint)
    in_json = reason([b"json", json.dumps([value, 1.0]).encode()], JSON)
    assert hint in in_json


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[np.float64(1.5), np.float64(2.5)]", "NumPy numbers: send json.dumps(x.tolist())"),
        ("{'x': np.float64(1.5), 'y': 2}", "NumPy numbers: send json.dumps(x.tolist())"),
        (str(X), "the text of a NumPy array: send json.dumps(x.tolist())"),
        (str(np.ones((2, 2))), "the text of a NumPy array: send json.dumps(x.tolist())"),
        (repr(X), "an array: send json.dumps(x.tolist())"),
        ("[tensor(1.5), tensor(2.)]", "an array: send json.dumps(x.tolist())"),
        (str({"x": 1.5, "y": 2}), "a Python object: send json.dumps(x)"),
        (str([1.5, None]), "a Python object: send json.dumps(x)"),
        (str((1.5, 2.5)), "a Python tuple: send json.dumps(x)"),
        (str([Decimal("1.5"), 2]), "Python objects: send floats by json.dumps"),
        (repr(b"[1.5,2.5]"), "the repr of bytes: send the text itself"),
    ],
)
def test_a_text_that_is_no_json_says_how_to_send_it(text: str, hint: str) -> None:
    said = reason([b"json", text.encode()], JSON)
    assert said.startswith("bad JSON: ")
    assert said.endswith(hint)


@pytest.mark.parametrize("text", ["", "abc", "1_000", "0x10", "١", "\x00", "nan1", "9" * 500])
def test_what_could_be_anything_has_no_hint(text: str) -> None:
    assert number_hint(text) == ""
    assert json_hint(text) == ""


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 writes the number alone")
def test_what_redis_py_sends_for_a_numpy_scalar_is_named(valkey_url: str, namespace: str) -> None:
    with redis.Redis.from_url(valkey_url, protocol=2) as client:
        client.xadd(namespace, {"x": X[0], "y": X[1]})
        entries: Any = client.xrange(namespace)
        client.delete(namespace)
    fields = [part for pair in entries[0][1].items() for part in pair]
    with pytest.raises(Exception, match=r"the repr of a NumPy number: send float\(x\)"):
        guess_layout(fields, PointsFormat())
