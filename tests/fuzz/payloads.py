"""States and models that were damaged on their way, or written by another version.

Each is refused with one line that names the key and says what to do, or it is what it was before.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from streamclust.errors import FormatError
from streamclust.formats import checkpoint
from streamclust.formats import model as published
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.formats.container import pack, unpack
from streamclust.formats.model import decode_model, encode_model
from streamclust.models import GaussianMixture, KMeans
from streamclust.online.forgetting import PowerSchedule
from streamclust.online.learner import LearnerState, StreamLearner
from tests.fuzz.mutate import damage
from tests.support.states import LAYOUT, POSITION, a_model, step

_MENDS = ("move it away", "move the key away", "give the model a new name")
_ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1.5,
        2**70,
        -(2**63),
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "kmeans",
    ),
    *([], [1], [[]], {}, {"kind": "kmeans"}, {"x": None}, ["a", "b"], [1.0, 2.0]),
)


@dataclass(frozen=True)
class _Kind:
    """A payload, its format, and how it is read and written."""

    where: str
    form: str
    data: bytes
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def fuzz_payloads(count: int, seed: int) -> Iterator[dict[str, int]]:
    """Try so many payloads; yield how many were refused, and how many were as before.

    Raises
    ------
    AssertionError
        With the seed and number of the one that went wrong.
    """
    kinds = _kinds()
    tally = {"payloads": 0, "refused": 0, "unchanged": 0}
    for number in range(count):
        rng = random.Random(f"{seed} payload {number}")  # noqa: S311
        kind = kinds[number % len(kinds)]
        try:
            tally[_try(kind, rng)] += 1
        except Exception as error:
            raise AssertionError(f"payloads, seed {seed}, number {number}: {error!r}") from error
        tally["payloads"] += 1
        yield tally


def _kinds() -> list[_Kind]:
    families = [KMeans(3)] + [
        GaussianMixture(2, form) for form in ("full", "tied", "diag", "spherical")
    ]
    return [_state(family) for family in families] + [_model(family) for family in families]


def _state(family: Any) -> _Kind:
    learner = StreamLearner(family, PowerSchedule(average=True), warm_up=60)
    state: LearnerState[Any] = LearnerState()
    for number in range(4):
        state = step(learner, state, number)
    where = "key {ns:m}:state"
    data = encode_checkpoint(Checkpoint(state, POSITION, LAYOUT, 3, 90, dead=2), family)
    decode = partial(decode_checkpoint, family=family, where=where)
    encode = partial(encode_checkpoint, family=family)
    return _Kind(where, checkpoint.FORMAT, data, decode, encode)


def _model(family: Any) -> _Kind:
    where = "key {ns:m}:models entry 7-0"
    model = replace(a_model(family), family=family)
    data = encode_model(decode_model(encode_model(model), where))
    decode = partial(decode_model, where=where)
    return _Kind(where, published.FORMAT, data, decode, encode_model)


def _try(kind: _Kind, rng: random.Random) -> str:
    way = rng.choice((_bytes, _bytes, _header, _meta, _newer))
    changed = way(kind, rng)
    try:
        found = kind.decode(changed)
    except FormatError as error:
        text = str(error)
        assert text.startswith(kind.where), text
        assert any(mend in text for mend in _MENDS), text
        assert "\n" not in text, text
        if way is _newer:
            assert "use the version that wrote it" in text, text
        return "refused"
    assert way is not _newer, "another format was read"
    # What has a true checksum can't be told from what was meant, but must be usable; damage can.
    assert kind.encode(found) == kind.data or way is _meta, "damage that nobody noticed"
    return "unchanged"


def _bytes(kind: _Kind, rng: random.Random) -> bytes:
    return damage(kind.data, rng)


def _header(kind: _Kind, rng: random.Random) -> bytes:
    """Damage what the header claims: sizes, offsets, shapes, types, names."""
    size = int.from_bytes(kind.data[:8], "little")
    header = json.loads(kind.data[8 : 8 + size])
    _spoil(header, rng)
    text = json.dumps(header).encode()
    claimed = rng.choice((len(text), len(text), len(text) + 1, 0, 2**40, 2**63, 2**64 - 1))
    return claimed.to_bytes(8, "little") + text + kind.data[8 + size :]


def _meta(kind: _Kind, rng: random.Random) -> bytes:
    """Write other metadata or arrays, with a checksum that holds."""
    arrays, meta = unpack(kind.data, kind.form, kind.where)
    if rng.random() < 0.7:
        _spoil(meta, rng)
    else:
        name = rng.choice(list(arrays))
        array = arrays[name]
        changes = (array[:0], array[..., :1], array[None], array * float("nan"), -array)
        arrays = {**arrays, name: rng.choice((*changes, array.astype("float32")))}
    return pack(kind.form, arrays, {k: v for k, v in meta.items() if k != "format"})


def _newer(kind: _Kind, rng: random.Random) -> bytes:
    arrays, meta = unpack(kind.data, kind.form, kind.where)
    name, _, _ = kind.form.partition("/")
    return pack(f"{name}/{rng.choice((3, 10, '1.1'))}", arrays, meta)


def _spoil(tree: dict[str, Any], rng: random.Random) -> None:
    """Replace or remove one value of a tree, at any depth."""
    key = rng.choice(list(tree))
    if isinstance(tree[key], dict) and tree[key] and rng.random() < 0.7:
        _spoil(tree[key], rng)
    elif rng.random() < 0.2:
        del tree[key]
    else:
        tree[key] = rng.choice(_ODD)
