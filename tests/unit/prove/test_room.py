"""Room for a dump: the rough need, and what it is held against."""

from __future__ import annotations

import pytest

from kdumpd.policy import load
from kdumpd.prove.room import judged, parse_meminfo, rough_need

GIB = 1 << 30
MEMINFO = parse_meminfo(
    "MemTotal:       8388608 kB\nMemFree:  4194304 kB\nBuffers: 0 kB\nCached: 1048576 kB\nSwapCached: 0 kB\n"
    "AnonPages: 1048576 kB\nHugetlb: 1048576 kB\nHugePages_Total:       512\n"
)


@pytest.mark.parametrize(
    ("dump", "need"),
    [
        ("{level: 31}", GIB // 2),
        ("{level: 31, compression: none}", GIB),
        ("{level: 0, compression: none}", 8 * GIB),
        ("{level: 16, compression: none}", 4 * GIB),
        ("{level: 8, compression: none}", 6 * GIB),
        ("{level: 2, compression: none}", 7 * GIB),
    ],
)
def test_what_the_level_leaves_out_needs_no_room(dump: str, need: int) -> None:
    assert rough_need(MEMINFO, load.parse(f"dump: {dump}".encode()).dump) == need


def test_counters_that_are_not_there_count_as_nothing() -> None:
    assert rough_need({}, load.default().dump) == 0


def test_room_is_enough_scarce_or_none() -> None:
    assert judged(10 * GIB, 2 * GIB, GIB) == (True, "")
    good, why = judged(5 * GIB // 2, 2 * GIB, GIB)
    assert (
        good,
        why.startswith("2.5 GiB free less min_free 2.0 GiB may be too little: a dump takes about 1.0 GiB"),
    ) == (
        True,
        True,
    )
    assert judged(2 * GIB, 2 * GIB, GIB)[0] is False
