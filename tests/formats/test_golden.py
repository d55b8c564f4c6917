"""Stored bytes of states and models: what was written before is read, and is written alike.

`golden/first` holds files of the first release of the formats. Each file of `golden/current` is the
same object as it is written now. A change of these files is a change of the format: say so in
CHANGELOG.md, and keep what is in `first` readable. To write `current` anew:
``python -m tests.formats.test_golden``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamclust.formats.checkpoint import FORMATS, decode_checkpoint, encode_checkpoint
from streamclust.formats.container import unpack
from streamclust.formats.model import decode_model, encode_model, family_of
from streamclust.models import FAMILIES

GOLDEN = Path(__file__).parent / "golden"
STATES = sorted(path.name for path in (GOLDEN / "first").glob("state-*.safetensors"))
MODELS = sorted(path.name for path in (GOLDEN / "first").glob("model-*.safetensors"))


def written_again(path: Path) -> bytes:
    """The bytes of what a file holds, as they are written now."""
    data = path.read_bytes()
    if path.name.startswith("model-"):
        return encode_model(decode_model(data, path.name))
    family = family_of(unpack(data, FORMATS, path.name)[1]["family"])
    return encode_checkpoint(decode_checkpoint(data, family, path.name), family)


@pytest.mark.parametrize("folder", ["first", "current"])
@pytest.mark.parametrize("name", [*STATES, *MODELS])
def test_what_was_written_before_is_read_and_written_as_it_is_now(folder: str, name: str) -> None:
    assert written_again(GOLDEN / folder / name) == (GOLDEN / "current" / name).read_bytes()


def test_the_files_cover_each_kind_of_state() -> None:
    metas = [unpack((GOLDEN / "current" / name).read_bytes(), FORMATS, name)[1] for name in STATES]
    assert any(meta["pending"] for meta in metas)
    assert {json.dumps(meta["family"]["kind"]) for meta in metas} == {
        json.dumps(kind) for kind in FAMILIES
    }
    assert {"none", "robust"} <= {meta["scaling"] for meta in metas}
    assert {meta["family"]["kind"] for meta in metas if "scores" in meta} == set(FAMILIES)


def test_only_models_that_remember_scores_have_bytes_for_them() -> None:
    for path in sorted((GOLDEN / "current").iterdir()):
        assert (b"scores" in path.read_bytes()) == ("scores" in path.name)


if __name__ == "__main__":
    (GOLDEN / "current").mkdir(exist_ok=True)
    for path in sorted((GOLDEN / "first").iterdir()):
        (GOLDEN / "current" / path.name).write_bytes(written_again(path))
