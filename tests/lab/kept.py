"""Which pages a KDUMP file keeps, read by code that shares nothing with kdumpd's own reader.

Called by tests that compare dumps; imports nothing of kdumpd. Fields by makedumpfile's diskdump_mod.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

SIGNATURE = b"KDUMP   "
SUB_HEADER_MAX_MAPNR = 96  # struct kdump_sub_header: max_mapnr_64, since version 6
BLOCK_SIZE = 428  # struct disk_dump_header: after signature, version, six fields of utsname, timestamp, status


def kept_bits(dump: Path) -> int:
    """The second bitmap as one integer: bit N is set when page frame N is in the dump."""
    with dump.open("rb") as file:
        header = file.read(464)
        if header[:8] != SIGNATURE:
            raise ValueError(f"{dump}: not a KDUMP file")
        block_size, sub_header_blocks, bitmap_blocks = struct.unpack_from("<iiI", header, BLOCK_SIZE)
        file.seek(block_size + SUB_HEADER_MAX_MAPNR)
        max_mapnr = int.from_bytes(file.read(8), "little")
        file.seek((1 + sub_header_blocks + bitmap_blocks // 2) * block_size)
        bitmap = file.read((max_mapnr + 7) // 8)
    return int.from_bytes(bitmap, "little") & ((1 << max_mapnr) - 1)


def pfns(bits: int) -> list[int]:
    """The page frame numbers of a bitmap, ascending."""
    text = f"{bits:b}"[::-1]
    found, start = [], text.find("1")
    while start >= 0:
        found.append(start)
        start = text.find("1", start + 1)
    return found


def kept_pfns(dump: Path) -> set[int]:
    """The page frame numbers that a dump keeps."""
    return set(pfns(kept_bits(dump)))
