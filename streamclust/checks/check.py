"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Parameters
    ----------
    state : 'ok', 'warn' or 'fail'
        'fail': a command can't work. 'warn': it works, but a user should know this.
    about : str
        What was checked, such as "server" or "stream points".
    text : str
        What was found, and what to do.
    """

    state: State
    about: str
    text: str
