"""Entries of several streams in columns."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.store.reply.entries import from_reply

IDS = [(5, 0), (5, 3), (7, 0), (7, 1), (7, 4), (9, 2)]


@pytest.mark.parametrize("last", [(0, 0), (5, 0), (5, 1), (7, 1), (7, 9), (8, 0), (9, 2), (10, 0)])
def test_the_entries_up_to_an_id_are_counted(last: tuple[int, int]) -> None:
    entries = from_reply("s", [(b"%d-%d" % each, [b"x", b"1"]) for each in IDS], None, None)
    parts = np.array(last, np.uint64)
    assert entries.count_up_to(parts, included=True) == sum(each <= last for each in IDS)
    assert entries.count_up_to(parts, included=False) == sum(each < last for each in IDS)
    assert entries[:0].count_up_to(parts, included=True) == 0
