"""What the blocks of a window cover: each block's pages have the fate of its head.

One block after the other where there are few; where there are many, of all at once, by masks: a block is aligned to its
size, so that two of them are apart or one lies inside the other. Orders are checked before they are trusted. Called by
`scan.windows`. May import `scan.planes`, `scan.rules` and `vmcore.layout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from struct import Struct
from typing import NamedTuple

from kdumpd.scan.planes import WINDOW, Planes, equal, nonzero
from kdumpd.scan.rules import Fate
from kdumpd.vmcore.layout import MAX_BLOCK_ORDER, PageLayout

LARGEST = WINDOW.bit_length() - 1  # the order of a block that is a window long

# Fates of a window in bytes, to be sliced: `_RUN[fate][:count]`.
_RUN = {int(fate): bytes([fate]) * WINDOW for fate in Fate}
_EVERY = [
    int.from_bytes((b"\1" + bytes((1 << order) - 1)) * (WINDOW >> order), "little") for order in range(LARGEST + 1)
]
_U32 = Struct("<I").unpack_from
_U64 = Struct("<Q").unpack_from


class WindowVerdict(NamedTuple):
    """`fates`: a byte a page, the first in the lowest; `reach`: pages from the start to the last block's end."""

    fates: int
    reach: int
    reach_fate: int
    bad_orders: int


class Blocks:
    """A window with the fates of its pages one by one, and the masks of the heads that may stand for more pages."""

    def __init__(
        self,
        layout: PageLayout,
        first_pfn: int,
        planes: Planes,
        fates: int,
        free: int,
        compound: int,
        after: bytes,
    ) -> None:
        self._layout = layout
        self._first_pfn = first_pfn
        self._planes = planes
        self._fates = fates
        self._free = free
        self._compound = compound
        self._after = after

    def one_by_one(self) -> WindowVerdict:
        """The verdict, block after block."""
        layout, planes, first_pfn, after = self._layout, self._planes, self._first_pfn, self._after
        window, start, count = planes.window, planes.start, planes.count
        free = int(Fate.FREE)
        size, private, mapcount = layout.size, start + layout.private, start + layout.mapcount
        unaccepted, second_order = layout.unaccepted_type, layout.second_order
        fates = bytearray(self._fates.to_bytes(count, "little"))
        reach = reach_fate = bad_orders = 0
        for index in _positions(self._free | self._compound, count):
            if index < reach:
                continue  # inside a block that has been dropped whole
            fate = fates[index]
            if fate == free:
                order = _U64(window, private + index * size)[0]
                if unaccepted is not None and _U32(window, mapcount + index * size)[0] == unaccepted:
                    order = layout.free_orders - 1
                if order >= layout.free_orders or (first_pfn + index) & ((1 << order) - 1):
                    fates[index] = 0
                    bad_orders += 1
                    continue
            else:
                if second_order is None:
                    continue
                if index + 1 < count:
                    order = window[start + (index + 1) * size + second_order]
                elif after:
                    order = after[second_order]
                else:
                    continue
                if order > MAX_BLOCK_ORDER or (first_pfn + index) & ((1 << order) - 1):
                    continue
            if order:
                reach, reach_fate = index + (1 << order), fate
                inside = min(reach, count)
                fates[index:inside] = _RUN[reach_fate][: inside - index]
        return WindowVerdict(int.from_bytes(fates, "little"), reach, reach_fate, bad_orders)

    def at_once(self) -> WindowVerdict | None:
        """The verdict by masks; None where a block is larger than a window or blocks of two fates lie in each other."""
        layout, planes, fates = self._layout, self._planes, self._fates
        free, orders = self._free, 0
        plain = free
        if free:
            above = 0
            for offset in range(layout.private + 1, layout.private + 8):
                if planes.some(offset):
                    above |= planes.at(offset)
            plain ^= plain & nonzero(above)
            orders = planes.at(layout.private) & plain * 0xFF
        if self._compound and layout.second_order is not None:
            seconds = planes.at(layout.second_order) >> 8
            if self._after:
                seconds |= self._after[layout.second_order] << 8 * (planes.count - 1)
            orders |= seconds & self._compound * 0xFF
        bad = free ^ plain | plain & nonzero(orders)
        heads = {}
        for order, mask in self._by_order(orders.to_bytes(planes.count, "little")):
            bad ^= bad & mask
            heads[order] = mask
        if not heads:
            reach = reach_fate = covered = 0
        elif max(heads) > LARGEST:
            return None
        else:
            marks = _spread(fates, heads) & planes.ones * 0xFF
            covered = nonzero(marks)
            if marks & marks - covered:
                return None
            reach, reach_fate = self._reach(heads)
            fates = marks | fates ^ fates & covered * 0xFF
        bad ^= bad & covered
        return WindowVerdict(fates ^ bad * Fate.FREE, reach, reach_fate, bad.bit_count())

    def _by_order(self, orders: bytes) -> Iterator[tuple[int, int]]:
        """The masks of the heads of each order above 0 that can be."""
        for order in range(1, max(self._layout.free_orders, MAX_BLOCK_ORDER + 1)):
            mask = equal(orders, order)
            if mask:
                skip = -self._first_pfn & (1 << order) - 1
                mask &= _EVERY[min(order, LARGEST)] << 8 * skip if skip < WINDOW else 0
                if order >= self._layout.free_orders:
                    mask ^= mask & self._free
                if order > MAX_BLOCK_ORDER:
                    mask &= self._free
                if mask:
                    yield order, mask

    def _reach(self, heads: dict[int, int]) -> tuple[int, int]:
        """Where the last block ends, and its fate."""
        reach, last = max(((mask.bit_length() - 1) // 8 + (1 << order), order) for order, mask in heads.items())
        head = reach - (1 << last)
        return reach, self._fates >> 8 * head & 0xFF


def _spread(fates: int, heads: dict[int, int]) -> int:
    """The fates of the heads at every page of their blocks, from the largest order down: twice as many at each step."""
    marks = 0
    for order in range(max(heads), 0, -1):
        if order in heads:
            marks |= heads[order] * 0xFF & fates
        marks |= marks << (8 << order - 1)
    return marks


def _positions(mask: int, count: int) -> list[int]:
    """The indices of the pages in a mask, ascending."""
    if not mask:
        return []
    marks = mask.to_bytes(count, "little")
    if mask.bit_count() * 16 > count:
        return list(compress(range(count), marks))
    found = []
    index = marks.find(1)
    while index >= 0:
        found.append(index)
        index = marks.find(1, index + 1)
    return found
