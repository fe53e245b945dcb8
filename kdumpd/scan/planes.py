"""The exclusion rules for a window of page structures at once, by byte planes and big integers.

A *plane* is one byte of each structure, taken by a strided slice and read as one big integer; a *mask* is an integer
with 0 or 1 in each byte. Logic on masks costs a twentieth of a nanosecond a page, so that what counts is the number of
planes: each is made when a rule asks for it and not before, one that is the same everywhere costs no conversion, and a
page type that no page of the window has costs a slice. Shifts and complements cost four times as much as other logic:
there are few. Only heads of blocks are looked at one by one. Agreement with `scan.rules` is tested page by page.

May import `scan.rules`, `vmcore.layout` and `policy.model`.
"""

from __future__ import annotations

import mmap
from itertools import compress
from struct import Struct
from typing import NamedTuple

from kdumpd.policy.model import PageKind
from kdumpd.scan.rules import CACHE, CACHE_PRIVATE, FREE, USER, Fate, is_hugetlb
from kdumpd.vmcore.layout import MAX_BLOCK_ORDER, HugetlbMark, PageLayout

WINDOW = 8192  # page structures: 512 KiB of them stay in the L2 cache while their planes are taken
MANY = 40  # above one free page in so many it is cheaper to tell the single ones by planes than one by one
FEW = 64  # pages of a type; up to so many are looked at one by one

Buffer = bytes | bytearray | mmap.mmap

# Fates of a window in bytes, to be sliced: `_RUN[fate][:count]`.
_RUN = {fate: bytes([fate]) * WINDOW for fate in (Fate.KEEP, *Fate)}
_ONES = int.from_bytes(b"\1" * WINDOW, "little")
_LANES = [_ONES << bit for bit in range(8)]  # one bit of every byte
_U32 = Struct("<I").unpack_from
_U64 = Struct("<Q").unpack_from


class WindowVerdict(NamedTuple):
    """`fates`: a byte a page, the first in the lowest; `reach`: pages from the start to the last block's end."""

    fates: int
    reach: int
    reach_fate: Fate
    bad_orders: int


class WindowJudge:
    """Judges windows of page structures by one layout and one dump level."""

    def __init__(self, layout: PageLayout, level: PageKind) -> None:
        self.layout = layout
        self.level = int(level)

    def judge(
        self, first_pfn: int, window: Buffer, after: bytes = b"", start: int = 0, count: int | None = None
    ) -> WindowVerdict:
        """The verdict on `count` structures (at most WINDOW) from byte `start` on; the first is that of `first_pfn`.

        `after` is the structure behind them, if there is one and the last of the window is a head.
        """
        layout, level = self.layout, self.level
        planes = _Planes(layout, window, start, (len(window) - start) // layout.size if count is None else count)
        ones = planes.ones
        tails = planes.bit(layout.compound_head, 0)
        not_tail = ones ^ tails

        free = buddy = 0
        if level & FREE and layout.buddy_type is not None:
            free = buddy = planes.of_type(layout.buddy_type, not_tail)
            if layout.unaccepted_type is not None:
                free |= planes.of_type(layout.unaccepted_type, not_tail)
            if layout.slab_flag is not None and free:
                free ^= free & planes.flag(layout.slab_flag)
                buddy &= free
        rest = not_tail ^ free

        anon = 0
        if level & (CACHE | CACHE_PRIVATE | USER):
            anon = planes.bit(layout.mapping, 0) & rest
            if anon and layout.slab_flag is not None:
                anon ^= anon & planes.flag(layout.slab_flag)
            elif anon and layout.slab_type is not None:
                anon ^= planes.of_type(layout.slab_type, anon)

        cache = cache_private = 0
        if level & (CACHE | CACHE_PRIVATE):
            cached = planes.flag(layout.lru)
            swapcache = planes.flag(layout.swapcache)
            if swapcache:
                cached |= swapcache & planes.flag(layout.swapbacked)
            cached &= rest
            cached ^= cached & anon
            if cached:
                private = cached & planes.flag(layout.private_flag)
                cache = cached ^ private
                cache_private = private if level & CACHE_PRIVATE else 0
                rest ^= cache | cache_private

        head = planes.flag(layout.head) & not_tail
        user = 0
        if level & USER:
            user = anon & rest
            rest ^= user
            if head:
                hugetlb = self._hugetlb(planes, head & rest, after)
                user |= hugetlb
                rest ^= hugetlb

        hwpoison = planes.flag(layout.hwpoison) & (rest | tails) if layout.hwpoison is not None else 0
        rest ^= rest & hwpoison
        offline = planes.of_type(layout.offline_type, rest) if layout.offline_type is not None else 0
        if offline and layout.slab_flag is not None:
            offline ^= offline & planes.flag(layout.slab_flag)

        fates = cache
        for mask, fate in ((cache_private, 1), (user, 2), (free, 3), (hwpoison, 4), (offline, 5)):
            if mask:
                fates |= mask << fate
        blocks = free
        if head:
            blocks |= head & (cache | cache_private | user | hwpoison | offline)
        if not blocks:
            return WindowVerdict(fates, 0, Fate.KEEP, 0)
        if buddy.bit_count() > planes.count // MANY:
            blocks ^= buddy & planes.zero_word(layout.private)  # order 0: settled already
        return self._extend(first_pfn, planes, fates, blocks, after)

    def _hugetlb(self, planes: _Planes, heads: int, after: bytes) -> int:
        layout = self.layout
        if not heads or layout.hugetlb is HugetlbMark.UNKNOWN:
            return 0
        if layout.hugetlb is HugetlbMark.PAGE_TYPE:
            return planes.of_type(layout.hugetlb_value, heads)
        if layout.hugetlb is HugetlbMark.SECOND_FLAGS:
            marked = planes.flag(1 << layout.hugetlb_value)
        else:
            marked = planes.equal(layout.second_dtor or 0, layout.hugetlb_value)
        # What the second structure says, moved down to its head's place; that of the last head is not in the window.
        last = 8 * (planes.count - 1)
        return heads & (marked >> 8 | is_hugetlb(layout, b"", after) << last)

    def _extend(self, first_pfn: int, planes: _Planes, masks: int, blocks: int, after: bytes) -> WindowVerdict:
        """Give each block's pages the fate of its head; orders are checked before they are trusted."""
        layout, window, start, count = self.layout, planes.window, planes.start, planes.count
        size, private, mapcount = layout.size, start + layout.private, start + layout.mapcount
        unaccepted, second_order = layout.unaccepted_type, layout.second_order
        fates = bytearray(masks.to_bytes(count, "little"))
        reach, reach_fate, bad_orders = 0, Fate.KEEP, 0
        for index in _positions(blocks, count):
            if index < reach:
                continue  # inside a block that has been dropped whole
            fate = fates[index]
            if fate == Fate.FREE:
                order = _U64(window, private + index * size)[0]
                if unaccepted is not None and _U32(window, mapcount + index * size)[0] == unaccepted:
                    order = layout.free_orders - 1
                if order >= layout.free_orders or (first_pfn + index) & ((1 << order) - 1):
                    fates[index] = Fate.KEEP
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
                reach, reach_fate = index + (1 << order), Fate(fate)
                inside = min(reach, count)
                fates[index:inside] = _RUN[reach_fate][: inside - index]
        return WindowVerdict(int.from_bytes(fates, "little"), reach, reach_fate, bad_orders)


class _Planes:
    """The planes of one window, each made once."""

    def __init__(self, layout: PageLayout, window: Buffer, start: int, count: int) -> None:
        self.window = window
        self.start = start
        self.size = layout.size
        self.end = start + count * layout.size
        self.mapcount = layout.mapcount
        self.flags = layout.flags
        self.count = count
        self.ones = _ONES & ((1 << (8 * count)) - 1) if count < WINDOW else _ONES
        self._raw: dict[int, bytes | bytearray] = {}
        self._made: dict[int, int] = {}
        self._flag: dict[int, int] = {}

    def raw(self, offset: int) -> bytes | bytearray:
        """The byte at `offset` of each structure."""
        raw = self._raw.get(offset)
        if raw is None:
            raw = self._raw[offset] = self.window[self.start + offset : self.end : self.size]
        return raw

    def at(self, offset: int) -> int:
        """The plane of the byte at `offset` of each structure."""
        plane = self._made.get(offset)
        if plane is None:
            plane = self._made[offset] = int.from_bytes(self.raw(offset), "little")
        return plane

    def bit(self, offset: int, bit: int) -> int:
        """The mask of the pages that have this bit of the byte at `offset`; cheap where all have the same byte."""
        raw = self.raw(offset)
        if raw[0] == raw[-1] and raw == raw[:1] * self.count:
            return self.ones if raw[0] >> bit & 1 else 0
        lane = self.at(offset) & _LANES[bit]
        return lane >> bit if bit and lane else lane

    def flag(self, mask: int) -> int:
        """The mask of the pages whose page.flags has the single bit (or one of the bits) of `mask`."""
        found = self._flag.get(mask)
        if found is None:
            found, bits = 0, mask
            while bits:
                bit = bits.bit_length() - 1
                bits ^= 1 << bit
                found |= self.bit(self.flags + (bit >> 3), bit & 7)
            self._flag[mask] = found
        return found

    def zero_word(self, offset: int) -> int:
        """The mask of the pages whose 8-byte word at `offset` is zero."""
        word = 0
        for at in range(offset, offset + 8):
            word |= self.at(at)
        word |= word >> 4  # what the next byte's bits do to this one's high half never reaches its lowest bit
        word |= word >> 2
        word |= word >> 1
        return self.ones & ~word

    def of_type(self, value: int, among: int) -> int:
        """The mask of the pages of `among` whose page._mapcount is `value`, all 32 bits compared.

        The byte of the value that is neither 0x00 nor 0xff (what a mapped or an unmapped page has there) tells alone
        whether the window has any.
        """
        if not among:
            return 0
        octets = value.to_bytes(4, "little")
        telling = next((at for at, octet in enumerate(octets) if octet not in (0x00, 0xFF)), 0)
        raw = self.raw(self.mapcount + telling)
        if octets[telling] not in raw:
            return 0
        if raw.count(octets[telling]) <= FEW:
            return among & self._few_of_type(value, raw, octets[telling])
        for at, octet in enumerate(octets):
            if among:
                among &= self.equal(self.mapcount + at, octet)
        return among

    def _few_of_type(self, value: int, raw: bytes | bytearray, octet: int) -> int:
        marks = bytearray(self.count)
        place = self.start + self.mapcount
        index = raw.find(octet)
        while index >= 0:
            marks[index] = _U32(self.window, place + index * self.size)[0] == value
            index = raw.find(octet, index + 1)
        return int.from_bytes(marks, "little")

    def equal(self, offset: int, octet: int) -> int:
        """The mask of the pages whose byte at `offset` is `octet`."""
        raw = self.raw(offset)
        return int.from_bytes(raw.translate(_IS[octet]), "little") if octet in raw else 0


_IS = [bytes(value == octet for value in range(256)) for octet in range(256)]


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
