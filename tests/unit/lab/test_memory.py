"""The guest's memory as the lab sees it from outside, and the vmcore made of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import mmap
import os
import struct
from pathlib import Path

import pytest

from tests.lab.crash import compose, head_of
from tests.lab.memory import BLOCK, MIB, GuestMemory

GIB = 1 << 30


def write(memory: GuestMemory, argument: str, offset: int, data: bytes) -> None:
    """Write into the memory as QEMU would: through the path it was given."""
    path = next(text.partition("mem-path=")[2] for text in memory.arguments() if f"id={argument}," in text)
    file = os.open(path, os.O_RDWR)
    with mmap.mmap(file, BLOCK, offset=offset // BLOCK * BLOCK) as window:
        window[offset % BLOCK : offset % BLOCK + len(data)] = data
    os.close(file)


def test_memory_above_4_gib_lies_behind_the_2_gib_below_the_hole() -> None:
    with GuestMemory(5 * 1024, 1, 2, "amd64") as memory:
        assert memory.offset(0x1000) == 0x1000
        assert memory.offset(4 * GIB + 0x1000) == 2 * GIB + 0x1000


def test_memory_that_fits_below_the_hole_is_in_one_piece() -> None:
    with GuestMemory(2048, 1, 2, "amd64") as memory:
        assert memory.offset(2 * GIB - 1) == 2 * GIB - 1


def test_memory_of_arm_begins_at_1_gib() -> None:
    with GuestMemory(1024, 1, 2, "arm64") as memory:
        assert memory.offset(GIB) == 0


def test_only_blocks_that_were_written_are_given() -> None:
    with GuestMemory(64, 1, 2, "amd64") as memory:
        write(memory, "ram0", 3 * MIB, b"here")
        blocks = list(memory.blocks(MIB, 32 * MIB))
        assert [(distance, block[:4], len(block)) for distance, block in blocks] == [(2 * MIB, b"here", BLOCK)]


def test_blocks_of_a_range_stop_at_its_end_and_cross_nodes() -> None:
    with GuestMemory(64, 2, 2, "amd64") as memory:
        write(memory, "ram0", 32 * MIB - 4, b"last")
        write(memory, "ram1", 0, b"next")
        blocks = list(memory.blocks(32 * MIB - 4096, 8192))
        assert [(distance, block.strip(b"\0"), len(block)) for distance, block in blocks] == [
            (0, b"last", 4096),
            (4096, b"next", 4096),
        ]


def test_a_composed_vmcore_has_whole_pages_where_a_range_has_not(tmp_path: Path) -> None:
    head = bytearray(4096)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<H", head, 56, 1)
    struct.pack_into("<IIQQQQQQ", head, 64, 1, 0, 4096 + 0x10, 0, MIB + 0x10, 0x100, 0x100, 0)
    with GuestMemory(64, 1, 2, "amd64") as memory:
        write(memory, "ram0", MIB, bytes(range(256)))
        compose(bytes(head), tmp_path / "vmcore", memory)
    content = (tmp_path / "vmcore").read_bytes()
    assert len(content) == 8192
    assert content[4096 : 4096 + 256] == bytes(range(256))


def test_the_head_is_what_the_capture_kernel_printed() -> None:
    head = b"\x7fELF" + bytes(1000)
    text = base64.b64encode(gzip.compress(head)).decode()
    console = ["noise", "LAB: head begin", text[:40], text[40:], f"LAB: head end {hashlib.md5(head).hexdigest()}"]
    assert head_of(console) == head


def test_a_garbled_head_is_refused() -> None:
    text = base64.b64encode(gzip.compress(b"head")).decode()
    with pytest.raises(RuntimeError, match="garbled"):
        head_of(["LAB: head begin", text, "LAB: head end 0123"])
