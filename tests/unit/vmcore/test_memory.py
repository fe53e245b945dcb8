"""Physical memory: the same bytes by every way of reading, whatever the segments look like."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import ElfCore, Segment, Segments
from kdumpd.vmcore.memory import WIDE, WINDOW, Memory, Range, Ranges

_BYTES = random.Random(3).randbytes(9 << 20)


class _Opened(Memory):
    """Memory whose way of reading a test chooses."""

    def __init__(self, path: Path, segments: tuple[Segment, ...], *, mapped: bool, page_size: int = 4096) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        core = ElfCore(62, Segments(segments), b"", (0, 0), 0, path.stat().st_size)
        super().__init__(self.fd, core, "vmcore", page_size)
        self._mapped = mapped


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "file"
    path.write_bytes(_BYTES)
    return path


@pytest.fixture(params=[False, True], ids=["pread", "mmap"])
def mapped(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield bool(request.param)


def test_offsets_need_not_be_page_aligned(file: Path, mapped: bool) -> None:
    memory = _Opened(file, (Segment(0x100000, 0, 8 << 20, 8 << 20, 1234),), mapped=mapped)
    assert memory.view(0x100000, 64) == _BYTES[1234:1298]
    assert memory.read(0x100001, 5000) == _BYTES[1235:6235]
    assert memory.read_page(0x101) == _BYTES[1234 + 4096 : 1234 + 8192]


def test_reads_in_either_direction_and_over_windows(file: Path, mapped: bool) -> None:
    memory = _Opened(file, (Segment(0x100000, 0, 9 << 20, 9 << 20, 0),), mapped=mapped)
    step = 300_000
    for start in [*range(0, 8 << 20, step), *range(8 << 20, 0, -step)]:
        assert memory.view(0x100000 + start, step) == _BYTES[start : start + step]
    assert memory.view(0x100000, 9 << 20) == _BYTES[: 9 << 20]


def test_segments_that_overlap_are_one_memory(file: Path, mapped: bool) -> None:
    segments = (
        Segment(0x200000, 1, 0x100000, 0x100000, 0x200000),
        Segment(0x100000, 2, 0x400000, 0x400000, 0x100000),
        Segment(0x480000, 3, 0x100000, 0x100000, 0x480000),
    )
    memory = _Opened(file, segments, mapped=mapped)
    assert list(memory.ranges) == [Range(0x100000, 0x580000)]
    assert memory.view(0x100000, 0x480000) == _BYTES[0x100000:0x580000]


def test_ranges_that_touch_are_joined_and_holes_stay() -> None:
    assert list(Ranges(sorted([(30, 40), (0, 10), (10, 20), (35, 38), (50, 50)]))) == [Range(0, 20), Range(30, 40)]


def test_what_a_segment_leaves_out_of_the_file_is_zeros(file: Path, mapped: bool) -> None:
    segments = (Segment(0x1000, 0, 0x5000, 0x1000, 0), Segment(0x4000, 0, 0x1000, 0x1000, 0x4000))
    memory = _Opened(file, segments, mapped=mapped)
    expected = _BYTES[:0x1000] + bytes(0x2000) + _BYTES[0x4000:0x5000] + bytes(0x1000)
    assert memory.read(0x1000, 0x5000) == expected
    assert memory.view(0x1000, 0x5000) == expected


def test_the_bytes_that_lie_in_the_file_are_told_from_all_memory(file: Path, mapped: bool) -> None:
    segments = (
        Segment(0x9000, 0, 0x2000, 0, 0),
        Segment(0x1000, 0, 0x5000, 0x1000, 0),
        Segment(0x2000, 0, 0x800, 0x400, 0x1000),
        Segment(0x4000, 0, 0x1000, 0x1000, 0x4000),
    )
    memory = _Opened(file, segments, mapped=mapped)
    assert list(memory.ranges) == [Range(0x1000, 0x6000), Range(0x9000, 0xB000)]
    assert list(memory.stored_ranges) == [Range(0x1000, 0x2400), Range(0x4000, 0x5000)]


@pytest.mark.parametrize(("physical", "size"), [(0, 1), (0xFFF, 2), (0x5FFF, 2), (1 << 60, 8), (0x3000, 0x4000)])
def test_memory_that_is_not_there_is_named(file: Path, mapped: bool, physical: int, size: int) -> None:
    memory = _Opened(file, (Segment(0x1000, 0, 0x5000, 0x5000, 0),), mapped=mapped)
    for read in (memory.read, memory.view):
        with pytest.raises(VmcoreError, match="is in no PT_LOAD"):
            read(physical, size)


def test_a_page_of_which_a_part_is_there_is_filled_with_zeros(file: Path, mapped: bool) -> None:
    segments = (Segment(0x1000, 0, 0x1400, 0x1400, 0), Segment(0x2800, 0, 0x100, 0x100, 0))
    memory = _Opened(file, segments, mapped=mapped)
    assert memory.read_page(2) == _BYTES[0x1000:0x1400] + bytes(0x400) + _BYTES[:0x100] + bytes(0x700)
    with pytest.raises(VmcoreError, match="0x3000"):
        memory.read_page(3)


def test_a_page_over_two_segments_is_joined(file: Path, mapped: bool) -> None:
    segments = (Segment(0x1000, 0, 0x800, 0x800, 0), Segment(0x1800, 0, 0x800, 0x800, 0x5000))
    assert _Opened(file, segments, mapped=mapped).read_page(1) == _BYTES[:0x800] + _BYTES[0x5000:0x5800]


def test_pages_of_64_kib(file: Path, mapped: bool) -> None:
    memory = _Opened(file, (Segment(0x10000, 0, 0x20000, 0x20000, 100),), mapped=mapped, page_size=65536)
    assert memory.read_page(2) == _BYTES[100 + 65536 : 100 + 131072]


def test_any_read_gives_the_same_bytes_as_the_file(file: Path, mapped: bool) -> None:
    generator = Random(7)
    segments = tuple(
        Segment(start, 0, size, size, start)
        for start, size in ((generator.randrange(8 << 20), generator.randrange(1, 1 << 20)) for _ in range(12))
    )
    memory = _Opened(file, segments, mapped=mapped)
    for _ in range(500):
        part = generator.choice(memory.ranges)
        start = generator.randrange(part.start, part.end)
        size = generator.randrange(1, part.end - start + 1)
        read = generator.choice((memory.read, memory.view))
        assert read(start, size) == _BYTES[start : start + size]


def test_no_more_than_a_window_is_mapped(file: Path) -> None:
    memory = _Opened(file, (Segment(0, 0, 9 << 20, 9 << 20, 0),), mapped=True)
    memory.view(0, 9 << 20)
    mappings = Path("/proc/self/smaps").read_text().split(str(file))[1:]
    assert sum(int(text.split("Size:")[1].split()[0]) for text in mappings) <= WINDOW >> 10
    memory.close()
    assert str(file) not in Path("/proc/self/smaps").read_text()


@pytest.mark.parametrize("room", [WIDE, WINDOW, 0])
def test_where_there_is_no_room_for_a_wide_window_there_is_a_small_one(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as hole:
        hole.truncate(WIDE + WINDOW)
        hole.seek(WIDE)
        hole.write(b"kdump")
    whole, sizes = mmap.mmap, list[int]()

    def limited(descriptor: int, size: int, flags: int, protection: int, offset: int) -> mmap.mmap:
        if size > room:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        sizes.append(size)
        return whole(descriptor, size, flags, protection, offset=offset)

    monkeypatch.setattr(mmap, "mmap", limited)
    memory = _Opened(path, (Segment(0, 0, WIDE + WINDOW, WIDE + WINDOW, 0),), mapped=True)
    with suppress(VmcoreError), memory.wide():
        assert memory.view(0, 8) == bytes(8)
        assert memory.view(WIDE - 4, 8) == b"\0\0\0\0kdum"
        assert memory.maps == (room > 0)
        memory.view(1 << 40, 8)
    assert max(sizes, default=0) == room
    assert str(path) not in Path("/proc/self/smaps").read_text()
    assert memory.view(WIDE, 5) == b"kdump"
    memory.close()


def test_only_files_of_procfs_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 8192)  # a file without a block is no /proc/vmcore
    core = ElfCore(62, Segments([Segment(0, 0, 8192, 8192, 0)]), b"", (0, 0), 0, 8192)
    with (tmp_path / "hole").open("rb") as hole, Path("/proc/version").open("rb") as proc:
        assert not Memory(hole.fileno(), core, "hole")._mapped
        assert Memory(proc.fileno(), core, "proc")._mapped


def test_a_file_that_cannot_be_mapped_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(_BYTES[:8192])
    memory = _Opened(path, (Segment(0, 0, 8192, 8192, 0),), mapped=True)
    os.close(memory.fd)
    reading, writing = os.pipe()  # takes the number: a pipe can be neither mapped nor read at an offset
    try:
        with pytest.raises(VmcoreError, match="cannot be read"):
            memory.view(0, 4096)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_file_cut_after_it_was_opened_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(_BYTES[:8192])
    memory = _Opened(path, (Segment(0, 0, 8192, 8192, 0),), mapped=False)
    os.truncate(path, 4096)
    assert memory.read(0, 4096) == _BYTES[:4096]
    with pytest.raises(VmcoreError, match="past the end of the file"):
        memory.read(0, 8192)
