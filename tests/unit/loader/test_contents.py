"""What lies in the reservation, in a /proc/kcore made of a file."""

from __future__ import annotations

from pathlib import Path
from struct import pack

import pytest

from kdumpd.loader import contents
from kdumpd.loader.contents import Found, Piece

START, SIZE = 0x4000000, 0x300000
RANGES = ((START, START + SIZE),)
IMAGE = bytes(range(256)) * 1000
KERNEL = b"kernel" * 5000
LINE = b"irqpoll nr_cpus=1 reset_devices panic=10 console=ttyS0 and some more words"


class Memory:
    """Physical memory from START on, as /proc/kcore shows it behind a part without a physical address."""

    def __init__(self, path: Path) -> None:
        self.path = path
        headers = pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        headers += pack("<IIQQQQQQ", 1, 7, 0x1000, 0xFFFF0000, (1 << 64) - 1, 0x1000, 0x1000, 4096)
        headers += pack("<IIQQQQQQ", 1, 7, 0x2000, 0xFFFF8000, START, SIZE, SIZE, 4096)
        path.write_bytes(headers.ljust(0x2000 + SIZE, b"\0"))

    def put(self, address: int, data: bytes) -> None:
        with self.path.open("r+b") as stream:
            stream.seek(0x2000 + address - START)
            stream.write(data)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "kcore")


@pytest.fixture
def loaded(memory: Memory) -> tuple[Piece, ...]:
    """Pieces that lie across the blocks in which the reservation is read."""
    memory.put(START + 0xFF000, IMAGE)
    memory.put(START + 0x200000 - 30, LINE)
    memory.put(START + 0x280000, KERNEL)
    return contents.find({"image": IMAGE, "kernel": KERNEL, "command line": LINE}, RANGES, memory.path)


def test_each_piece_is_found_where_it_lies(loaded: tuple[Piece, ...]) -> None:
    assert {(piece.name, piece.address - START, piece.size) for piece in loaded} == {
        ("image", 0xFF000, len(IMAGE)),
        ("command line", 0x200000 - 30, len(LINE)),
        ("kernel", 0x280000, len(KERNEL)),
    }


def test_what_nobody_touched_is_the_same(memory: Memory, loaded: tuple[Piece, ...]) -> None:
    assert contents.look(loaded, memory.path) is Found.SAME


@pytest.mark.parametrize("offset", [0xFF000, 0xFF000 + len(IMAGE) - 1, 0x280000 + 100, 0x200000])
def test_one_byte_is_enough_to_be_something_else(memory: Memory, loaded: tuple[Piece, ...], offset: int) -> None:
    memory.put(START + offset, b"\xfe")
    assert contents.look(loaded, memory.path) is Found.OTHER


def test_a_piece_that_begins_alike_and_goes_on_otherwise_is_not_taken(memory: Memory) -> None:
    memory.put(START + 0x2000, IMAGE)
    memory.put(START + 0x200000, IMAGE[:4096] + b"other")
    (piece,) = contents.find({"image": IMAGE}, RANGES, memory.path)
    assert piece.address == START + 0x2000


@pytest.mark.parametrize("real", [0x2000, 0x2A0000])
def test_a_copy_that_an_earlier_load_left_hides_nothing_that_befalls_the_real_one(memory: Memory, real: int) -> None:
    for offset in (0x2000, 0x2A0000):
        memory.put(START + offset, KERNEL)
    pieces = contents.find({"kernel": KERNEL}, RANGES, memory.path)
    assert [piece.address - START for piece in pieces] == [0x2000, 0x2A0000]
    assert contents.look(pieces, memory.path) is Found.SAME
    memory.put(START + real + 7, b"\xfe")
    assert contents.look(pieces, memory.path) is Found.OTHER


def test_a_copy_where_two_blocks_meet_is_one(memory: Memory) -> None:
    memory.put(START + 0x200000, LINE)
    assert len(contents.find({"command line": LINE}, RANGES, memory.path)) == 1


def test_more_copies_than_loads_can_leave_are_no_evidence(memory: Memory) -> None:
    memory.put(START, LINE * 9)
    assert contents.find({"command line": LINE}, RANGES, memory.path) == ()


def test_memory_that_cannot_be_seen_tells_nothing(memory: Memory, loaded: tuple[Piece, ...], tmp_path: Path) -> None:
    assert contents.look((), memory.path) is Found.UNKNOWN
    assert contents.look(loaded, tmp_path / "none") is Found.UNKNOWN
    assert contents.look((Piece("image", 0x1000, 10, "x"),), memory.path) is Found.UNKNOWN
    memory.path.write_bytes(b"\x7fELF")
    assert contents.look(loaded, memory.path) is Found.UNKNOWN
    assert contents.find({"image": IMAGE}, RANGES, memory.path) == ()
    assert contents.find({"image": IMAGE}, RANGES, tmp_path / "none") == ()


def test_nothing_is_found_in_memory_that_reads_as_zeros(memory: Memory) -> None:
    assert contents.find({"image": IMAGE, "kernel": KERNEL}, RANGES, memory.path) == ()


def test_a_bzimage_is_loaded_without_its_real_mode_part(memory: Memory, tmp_path: Path) -> None:
    setup = bytearray(5 * 512)
    setup[0x1F1], setup[0x202:0x206] = 4, b"HdrS"
    (tmp_path / "vmlinuz").write_bytes(bytes(setup) + KERNEL)
    (tmp_path / "image").write_bytes(IMAGE)
    memory.put(START + 0x1000, KERNEL)
    pieces = contents.of_load(tmp_path / "vmlinuz", tmp_path / "image", "x" * 80, RANGES, memory.path)
    assert [(piece.name, piece.size) for piece in pieces] == [("kernel", len(KERNEL))]
    assert contents.payload(KERNEL) == KERNEL
    assert contents.of_load(tmp_path / "gone", tmp_path / "image", "", RANGES, memory.path) == ()
