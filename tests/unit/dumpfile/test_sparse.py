"""Holes of a file are passed over, and the sums are those of a file that has none."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import pytest

from kdumpd.dumpfile import sparse
from kdumpd.errors import DumpError


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 4096, 1 << 20, 3_333_333])
def test_a_sum_over_zeros_is_the_one_that_reads_them(size: int) -> None:
    for crc in (0, 1, 0xFFFFFFFF, zlib.crc32(b"some bytes")):
        assert sparse.over_zeros(crc, size) == zlib.crc32(bytes(size), crc)


def test_the_sum_of_a_file_does_not_depend_on_its_holes(tmp_path: Path) -> None:
    content = bytearray(12 << 20)
    generator = random.Random(4)
    for place in (5 << 20, (7 << 20) + 1234, len(content) - 5000):
        content[place : place + 3000] = generator.randbytes(3000)
    (tmp_path / "whole").write_bytes(content)
    with (tmp_path / "sparse").open("wb") as file:
        for place in range(0, len(content), 4096):
            if any(content[place : place + 4096]):
                file.seek(place)
                file.write(content[place : place + 4096])
        file.truncate(len(content))
    for name in ("whole", "sparse"):
        fd = os.open(tmp_path / name, os.O_RDONLY)
        for start, end in ((0, len(content)), (100, 6 << 20), (8 << 20, 9 << 20), (5, 5)):
            assert sparse.checksum(fd, start, end, 77) == zlib.crc32(content[start:end], 77)
        with pytest.raises(DumpError, match="cut at byte"):
            sparse.checksum(fd, 0, len(content) + 1)
        os.close(fd)


def test_what_has_no_holes_is_all_data() -> None:
    reading, writing = os.pipe()
    assert sparse.next_data(reading, 7, 9) == 7
    os.close(reading)
    os.close(writing)
