"""Byte planes of a window of page structures, and masks made of them by big integers.

A *plane* is one byte of each structure, taken by a strided slice and read as one big integer; a *mask* is an integer
with 0 or 1 in each byte. Logic on masks costs a twentieth of a nanosecond a page, shifts and complements a sixth, a
slice and reading it as an integer six tenths each: so a plane is made when a rule asks for it and not before, one that
is the same everywhere is not read as an integer, and a page type that no page of the window has costs a slice.

Called by `scan.windows` and `scan.blocks`. May import `vmcore.layout`.
"""

from __future__ import annotations

import mmap
from struct import Struct

from kdumpd.vmcore.layout import PageLayout

WINDOW = 8192  # page structures: 512 KiB of them stay in the L2 cache while their planes are taken
FEW = 64  # pages of a type; up to so many are looked at one by one

Buffer = bytes | bytearray | mmap.mmap

_ZEROS = bytes(WINDOW)
ONES = int.from_bytes(b"\1" * WINDOW, "little")
_LOW_BITS = ONES * 0x7F
_LANES = [ONES << bit for bit in range(8)]  # one bit of every byte
_IS = [bytes(value == octet for value in range(256)) for octet in range(256)]
_U32 = Struct("<I").unpack_from


class Planes:
    """The planes of one window, each made once."""

    def __init__(self, layout: PageLayout, window: Buffer, start: int, count: int) -> None:
        self.window = window
        self.start = start
        self.size = layout.size
        self.end = start + count * layout.size
        self.mapcount = layout.mapcount
        self.flags = layout.flags
        self.count = count
        self.ones = ONES & ((1 << (8 * count)) - 1) if count < WINDOW else ONES
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

    def some(self, offset: int) -> bool:
        """Whether the byte at `offset` is other than 0 in any structure."""
        return not _ZEROS.startswith(self.raw(offset))

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
        return equal(self.raw(offset), octet)


def equal(plane: bytes | bytearray, octet: int) -> int:
    """The mask of the pages whose byte is `octet`."""
    return int.from_bytes(plane.translate(_IS[octet]), "little") if octet in plane else 0


def nonzero(plane: int) -> int:
    """The mask of the pages whose byte is not 0."""
    return ((plane & _LOW_BITS) + _LOW_BITS | plane) >> 7 & ONES if plane else 0
