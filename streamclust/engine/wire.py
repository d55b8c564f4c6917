"""Tasks, parts and results as bytes: safetensors with JSON, and no pickle.

One message describes a task and how to read points; it is the same for all parts of a fold. Another
message describes a part. The answer is a result with the name of the kernels that computed it, or
an error.
"""

from __future__ import annotations

import struct
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from streamclust import errors
from streamclust.engine.base import Done
from streamclust.engine.identity import check_kernels
from streamclust.engine.parts import ArrayPart, FilePart, Stamp, StreamPart
from streamclust.engine.reader import Notes
from streamclust.engine.tasks import TASKS, Task
from streamclust.errors import EngineError, FormatError, StreamclustError
from streamclust.formats.container import Fields, pack, unpack
from streamclust.formats.layout import Layout
from streamclust.kernels import identity
from streamclust.models.scaling import Scaling
from streamclust.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamclust.engine.parts import Part

R = TypeVar("R")

TASK = "streamclust.task/1"
PART = "streamclust.part/1"
RESULT = "streamclust.result/1"

_SIZE = struct.Struct("<Q")

_REMEMBERED = 1024
"""Parts whose messages are remembered for the next pass."""

_SHORT = 1 << 14
"""Maximum bytes of a message that is remembered; longer messages contain points."""


def encode_task(task: Task[Any], scaling: Scaling | None) -> bytes:
    """Return the message of a task."""
    fields = task.to_fields()
    message = Fields(values={"kind": task.kind, "task": fields.values, "version": __version__})
    message.add_part("task", fields.arrays)
    if scaling is not None:
        message.values["scaling"] = scaling.kind
        message.add_part("scaling", {"center": scaling.center, "scale": scaling.scale})
    return pack(TASK, message.arrays, message.values)


def decode_task(data: bytes) -> tuple[Task[Any], Scaling | None]:
    """Return a task and the scaling of the points.

    Raises
    ------
    EngineError
        If another version of streamclust has sent the task.
    FormatError
        If the message is damaged.
    """
    arrays, meta = unpack(data, TASK, "the task")
    if meta["version"] != __version__:
        raise EngineError(
            f"the task is from streamclust {meta['version']}, this is {__version__}; "
            "install the same version on both sides"
        )
    own, scaling = Fields(arrays).part("task"), None
    if "scaling" in meta:
        scaling = Scaling(meta["scaling"], arrays["scaling.center"], arrays["scaling.scale"])
    kind = meta["kind"]
    if kind not in TASKS:
        raise FormatError(f"the task has the unknown kind {kind!r}")
    return TASKS[kind].from_fields(Fields(own, meta["task"])), scaling


def encode_part(number: int, part: Part) -> bytes:
    """Return the message of a part."""
    if isinstance(part, ArrayPart):
        return pack(PART, {"X": part.X, "w": part.w}, {"kind": part.kind, "number": number})
    try:
        return _encode_place(number, part)
    except TypeError:  # a list among the options
        return _encode_place.__wrapped__(number, part)


@lru_cache(maxsize=_REMEMBERED)
def _encode_place(number: int, part: StreamPart | FilePart) -> bytes:
    """Return the message of a part that isn't in memory; it is the same in each pass."""
    return pack(PART, {}, {"kind": part.kind, "number": number, "part": asdict(part)})


def decode_part(data: bytes) -> tuple[int, Part]:
    """Return the number of a part, and the part.

    Raises
    ------
    FormatError
        If the message is damaged.
    """
    return _decode_part(data) if len(data) > _SHORT else _decode_place(data)


@lru_cache(maxsize=_REMEMBERED)
def _decode_place(data: bytes) -> tuple[int, Part]:
    return _decode_part(data)


def _decode_part(data: bytes) -> tuple[int, Part]:
    arrays, meta = unpack(data, PART, "the part")
    number, kind = meta["number"], meta["kind"]
    try:
        if kind == ArrayPart.kind:
            return number, ArrayPart(arrays["X"], arrays["w"])
        stored = meta["part"]
        if kind == StreamPart.kind:
            return number, StreamPart(**{**stored, "layout": Layout.from_dict(stored["layout"])})
        return number, _file_part(stored)
    except (KeyError, TypeError) as error:
        raise FormatError(f"the part can't be read: {error}") from error


def _file_part(stored: dict[str, Any]) -> FilePart:
    from streamclust.tables import ModelColumns, TableOptions
    from streamclust.tables.split import Span

    return FilePart(
        stored["name"],
        stored["path"],
        Stamp(**stored["stamp"]),
        Span(**stored["span"]),
        TableOptions(**_tuples(stored["options"])),
        None if stored["model"] is None else ModelColumns(**_tuples(stored["model"])),
        stored["directions"],
    )


def _tuples(stored: dict[str, Any]) -> dict[str, Any]:
    """Return values with tuples in place of lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}


def encode_result(task: Task[R], done: Done[R]) -> bytes:
    """Return the message of a result."""
    fields = task.result_to_fields(done.value)
    meta = {
        "kernels": getattr(identity(), task.kernels),
        "result": fields.values,
        "notes": vars(done.notes),
    }
    return pack(RESULT, fields.arrays, meta)


def join_messages(messages: Iterable[bytes]) -> bytes:
    """Return several messages as one."""
    return b"".join(_SIZE.pack(len(each)) + each for each in messages)


def split_messages(data: bytes) -> list[bytes]:
    """Return the messages in one; the inverse of `join_messages`."""
    found, start = list[bytes](), 0
    while start < len(data):
        (size,), start = _SIZE.unpack_from(data, start), start + _SIZE.size
        found.append(data[start : start + size])
        start += size
    return found


def encode_error(error: Exception) -> bytes:
    """Return the message of an error; the text of an unexpected error is shortened."""
    known = isinstance(error, StreamclustError)
    text = str(error) if known else errors.unexpected(error)
    name = type(error).__name__ if known else ""
    return pack(RESULT, {}, {"error": name, "text": text})


def decode_result(task: Task[R], data: bytes, where: str) -> Done[R]:
    """Return the result in a message.

    Parameters
    ----------
    task : Task
    data : bytes
    where : str
        The process that has sent the message, for errors.

    Raises
    ------
    StreamclustError
        If the message is an error: the error of the same class.
    EngineError
        If the result is from other kernels, or the message is damaged.
    """
    try:
        arrays, meta = unpack(data, RESULT, f"the result of {where}")
    except FormatError as error:
        raise EngineError(str(error)) from None
    if "error" in meta:
        raise _error(meta["error"], meta["text"], where)
    check_kernels(task.kernels, meta["kernels"], where)
    notes = {**meta["notes"], "reasons": tuple(meta["notes"]["reasons"])}
    return Done(task.result_from_fields(Fields(arrays, meta["result"])), Notes(**notes))


def _error(name: str, text: str, where: str) -> StreamclustError:
    known = getattr(errors, name, None) if name else None
    if isinstance(known, type) and issubclass(known, StreamclustError):
        make: Callable[[str], StreamclustError] = known
        try:
            return make(text)
        except TypeError:  # a class with other parameters
            return EngineError(text)
    return EngineError(f"{where} failed: {text}")
