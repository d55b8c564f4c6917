"""The small version of the fuzzer in ``make chaos``."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.arrays import fuzz_kernels
from tests.fuzz.payloads import fuzz_payloads
from tests.fuzz.points import fuzz_points
from tests.fuzz.replies import fuzz_replies
from tests.fuzz.settings import fuzz_settings
from tests.support.replies import needs_native

SEED = 1


def test_of_10_000_entries_each_is_accounted_for() -> None:
    *_, tally = fuzz_points(10_000, SEED)
    assert tally.entries == 10_000
    assert tally.dead > 250
    assert tally.compared > 5_000


def test_payloads_are_refused_or_as_they_were() -> None:
    *_, tally = fuzz_payloads(1000, SEED)
    assert tally["refused"] + tally["unchanged"] == 1000
    assert tally["refused"] > 500


def test_settings_are_valid_or_refused_with_a_reason(tmp_path: Path) -> None:
    *_, tally = fuzz_settings(100, SEED, tmp_path)
    assert tally["valid"] + tally["refused"] == 100
    assert tally["valid"] > 0


@needs_native
def test_replies_are_read_as_by_hiredis_and_python() -> None:
    *_, tally = fuzz_replies(300, SEED)
    assert tally["whole"] > 50
    assert tally["entries"] > tally["coded"] > 50


@needs_native
def test_kernels_stay_within_their_arrays() -> None:
    *_, tally = fuzz_kernels(30, SEED)
    assert tally["calls"] >= 30
