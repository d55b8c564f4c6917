"""Folds of e-steps over parts of data: in this process, in threads, in other processes.

A part is a range of a stream, a piece of a file, or an array. Parts are cut from IDs, sizes and
settings only, and results are merged in the order of the parts. So the bits of a result don't
depend on the engine, on the number of its workers, or on the time at which they finish.
"""

from streamclust.engine.base import Done, Engine, Inline
from streamclust.engine.parts import ArrayPart, FilePart, Part, StreamPart
from streamclust.engine.points import BLOCK, Points
from streamclust.engine.reader import Notes, Reader
from streamclust.engine.tasks import EStep, Task

__all__ = [
    "BLOCK",
    "ArrayPart",
    "Done",
    "EStep",
    "Engine",
    "FilePart",
    "Inline",
    "Notes",
    "Part",
    "Points",
    "Reader",
    "StreamPart",
    "Task",
]
