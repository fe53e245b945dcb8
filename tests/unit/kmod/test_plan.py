"""How the module cuts old memory into pieces (kmod/plan.c)."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.unit.kmod import stubs

K4, M2, G1 = 12, 21, 30
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


class Plan(NamedTuple):
    """The functions of plan.c."""

    piece: Callable[[int, int, int], int]
    middle: Callable[[int, int], int]
    tables: Callable[[list[tuple[int, int]], int], int]

    def pieces(self, start: int, end: int, shift: int) -> list[tuple[int, int]]:
        """All pieces of a range."""
        found = []
        while start < end:
            size = self.piece(start, end, shift)
            assert 0 < size <= end - start
            found.append((start, start + size))
            start += size
        return found


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """plan.c, compiled natively."""
    made = stubs.library(tmp_path_factory.mktemp("plan"))
    u64, u32 = ctypes.c_uint64, ctypes.c_uint32
    piece, middle, tables = made.ks_plan_piece, made.ks_plan_middle, made.ks_plan_tables
    piece.argtypes, piece.restype = (u64, u64, u32), u64
    middle.argtypes, middle.restype = (u64, u64), u64
    tables.argtypes, tables.restype = (ctypes.c_void_p, u32, u32), u64

    def reckon(ranges: list[tuple[int, int]], shift: int) -> int:
        flat = [number for pair in ranges for number in pair]
        return int(tables((u64 * len(flat))(*flat), len(ranges), shift))

    return Plan(piece, middle, reckon)


def test_largest_leaves_take_a_head_to_2_mib_one_to_1_gib_and_the_rest_in_one(plan: Plan) -> None:
    assert plan.pieces(1 * MIB, 5 * GIB + 12 * KIB, G1) == [
        (1 * MIB, 2 * MIB),
        (2 * MIB, 1 * GIB),
        (1 * GIB, 5 * GIB + 12 * KIB),
    ]


def test_a_range_on_1_gib_is_one_piece(plan: Plan) -> None:
    assert plan.pieces(4 * GIB, 16 * TIB, G1) == [(4 * GIB, 16 * TIB)]


def test_no_piece_of_2_mib_leaves_could_take_one_of_1_gib(plan: Plan) -> None:
    for start, end in plan.pieces(4 * GIB, 300 * GIB, M2):
        assert start % (2 * MIB) == 0
        assert start % GIB or end - start < GIB
        assert end - start <= 64 * GIB


def test_no_piece_of_4_kib_leaves_could_take_one_of_2_mib(plan: Plan) -> None:
    for start, end in plan.pieces(4 * GIB, 70 * GIB, K4):
        assert start % (2 * MIB) or end - start < 2 * MIB
        assert end - start < 256 * MIB  # some ten milliseconds of work


@pytest.mark.parametrize("shift", [K4, M2, G1])
def test_pieces_of_any_range_cover_it_without_a_gap(plan: Plan, shift: int) -> None:
    chance = random.Random(shift)
    for _ in range(300):
        start = chance.randrange(1 << 30) << 12 >> chance.choice([0, 3, 9]) << 12 & (1 << 46) - 1
        end = start + (chance.randrange(1, 1 << chance.choice([1, 9, 18, 24])) << 12)
        pieces = plan.pieces(start, end, shift)
        assert pieces[0][0] == start
        assert pieces[-1][1] == end
        assert all(before[1] == after[0] for before, after in itertools.pairwise(pieces))
        assert all(edge % 4096 == 0 for pair in pieces for edge in pair)


def test_halving_the_largest_piece_reaches_2_mib_with_few_waiting(plan: Plan) -> None:
    bad = 3 * TIB + 77 * GIB + 123 * MIB  # where it comes back uncached
    waiting = [(1 * GIB, 16 * TIB)]
    most = 0
    refused = []
    while waiting:
        start, end = waiting.pop()
        for first, last in reversed(plan.pieces(start, end, G1)):
            if not first <= bad < last:
                continue
            if last - first <= 2 * MIB:
                refused.append((first, last))
                continue
            middle = plan.middle(first, last)
            assert first < middle < last
            waiting += [(middle, last), (first, middle)]
        most = max(most, len(waiting))
    assert len(refused) == 1
    assert most < 60  # of KS_TODO


@pytest.mark.parametrize(
    ("ranges", "shift", "least", "most"),
    [
        ([(1 * MIB, 2 * GIB), (4 * GIB, 1024 * GIB)], G1, 8 * KIB, 64 * KIB),
        ([(4 * GIB, 16 * TIB)], G1, 128 * KIB, 160 * KIB),
        ([(4 * GIB, 1028 * GIB)], M2, 4 * MIB, 4200 * KIB),
        ([(4 * GIB, 1028 * GIB)], K4, 2 * GIB, 2080 * MIB),
        ([(1 * TIB + 64 * KIB * n, 1 * TIB + 64 * KIB * n + 12 * KIB) for n in range(5000)], G1, 160 * KIB, 180 * KIB),
    ],
)
def test_page_tables_are_reckoned_before_they_are_made(
    plan: Plan, ranges: list[tuple[int, int]], shift: int, least: int, most: int
) -> None:
    assert least <= plan.tables(ranges, shift) <= most
