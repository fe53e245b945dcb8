"""Holes of a file: what was never written is passed over instead of read, and sums go on over it all the same.

The bitmaps of a machine with memory at a high address are nearly all hole. Called by the writer and the reader. May
import `errors`.
"""

from __future__ import annotations

import errno
import os
import zlib

from kdumpd.errors import DumpError

WINDOW = 1 << 20  # bytes read at once

_POLYNOMIAL = 0xEDB88320  # of CRC-32, bits reflected
_ONE = 1 << 31  # x to the power of 0, bits reflected
_ALL = 0xFFFFFFFF


def next_data(fd: int, start: int, end: int) -> int:
    """The first byte from `start` on that may be other than zero, or `end`; where files have no holes that is `start`.

    A hole that runs past the end of the file counts: the caller knows the file's size.
    """
    if start >= end:
        return end
    try:
        return min(os.lseek(fd, start, os.SEEK_DATA), end)
    except OSError as error:
        return end if error.errno == errno.ENXIO else start


def checksum(fd: int, start: int, end: int, crc: int = 0) -> int:
    """CRC-32 `crc` gone on over the file from `start` to `end`; DumpError where the file is shorter."""
    if os.fstat(fd).st_size < end:
        raise DumpError(f"the dump is cut at byte {os.fstat(fd).st_size}, before the end of its descriptors at {end}")
    while start < end:
        data = next_data(fd, start, end)
        if data > start:
            crc = over_zeros(crc, data - start)
            start = data
            continue
        window = os.pread(fd, min(WINDOW, end - start), start)
        if not window:
            raise DumpError(f"the dump is cut at byte {start}, before the end of its descriptors at {end}")
        crc = zlib.crc32(window, crc)
        start += len(window)
    return crc


def over_zeros(crc: int, size: int) -> int:
    """What CRC-32 `crc` becomes over `size` bytes of zeros, which takes no longer for more of them.

    A bit more is one multiplication by x; so is a power of it, found by squaring.
    """
    power, state = _ONE >> 8, crc ^ _ALL  # x to the power of 8: one byte
    while size:
        if size & 1:
            state = _product(power, state)
        power = _product(power, power)
        size >>= 1
    return state ^ _ALL


def _product(left: int, right: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC-32's."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product
