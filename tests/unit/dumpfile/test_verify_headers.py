"""Headers and notes that lie, and files that are none: refused or called damaged, in one line."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.errors import DumpError
from tests.unit.dumpfile.changes import Change, Changed, with_header, with_sub_header


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"KDUMPD\0", b"KDUMPE\0"),  # the note's owner
        (b"KDUMPD\0", b"\0\0\0\0\0\0\0"),
        (b"\x44\x4b\0\0KDUMPD", b"\x45\x4b\0\0KDUMPD"),  # its type
        (b"\0\x04\0\0\x44\x4b\0\0KDUMPD", b"\0\x05\0\0\x44\x4b\0\0KDUMPD"),  # its size
        (b'{"checksum"', b"\0" * 11),
    ],
)
def test_a_note_of_ours_that_was_changed_is_not_taken_for_none(changed: Changed, before: bytes, after: bytes) -> None:
    def replace(content: bytearray) -> None:
        assert content.count(before) == 1
        content[:] = content.replace(before, after)

    result = changed(replace)
    assert (result.verdict, result.checksum) == ("damaged", "bad")


def test_a_complete_dump_whose_note_is_empty_is_damaged(dump_path: Path, changed: Changed) -> None:
    def empty(content: bytearray) -> None:
        start = content.index(b'{"checksum"')
        content[start : start + 1024] = bytes(1024)

    result = changed(empty)
    assert result.verdict == "damaged"
    assert "the KDUMPD note is empty" in result.problems[0]


def with_another_frame(content: bytearray) -> None:
    with_header(content, max_mapnr=0x1C02)
    with_sub_header(content, max_mapnr_64=0x1C02)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: with_sub_header(content, phys_base=4096), "phys_base 0x1000, VMCOREINFO 0x0"),
        (with_another_frame, "memory ends at page frame 0x1c01 in bitmap 1, at 0x1c02"),
        (lambda content: with_sub_header(content, max_mapnr_64=0x1C02), "page frames, the sub-header 7170"),
        (lambda content: content.__setitem__(slice(12 + 260, 12 + 266), b"x86_65"), "neither x86_64 nor aarch64"),
        (lambda content: content.__setitem__(slice(12 + 260, 12 + 267), b"aarch64"), "VMCOREINFO is not of aarch64"),
        (lambda content: content.__setitem__(12 + 130, ord("5")), "the header is of kernel b'5."),
    ],
)
def test_headers_are_compared_with_what_the_kernel_wrote_in_dumps_by_others_too(
    changed: Changed, change: Change, problem: str
) -> None:
    def both(content: bytearray) -> None:
        with_sub_header(content, notes_size=content.index(b"KDUMPD\0") - 12 - 4096 - 104)
        change(content)

    result = changed(both)
    assert (result.verdict, result.checksum) == ("damaged", "none")
    assert any(problem in line for line in result.problems), result.problems


def test_a_fifo_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero", str(tmp_path)):
        with pytest.raises(DumpError, match="give a dump in a file"):
            Dump.open(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: with_header(content, cpus=0), "0 processors"),
        (lambda content: with_sub_header(content, vmcoreinfo_offset=5000), "not the one in the notes"),
        (lambda content: with_sub_header(content, vmcoreinfo_size=1), "not the one in the notes"),
    ],
)
def test_what_only_crash_would_stumble_over_is_told(changed: Changed, change: Change, problem: str) -> None:
    result = changed(change)
    assert result.verdict == "damaged"
    assert problem in result.problems[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content.clear(), "no dump: 0 bytes"),
        (lambda content: content.__setitem__(slice(0, 4096), bytes(4096)), "no dump in KDUMP format"),
        (lambda content: content.__setitem__(slice(0, 13), b"makedumpfile\0"), "makedumpfile -R"),
        (lambda content: content.__setitem__(slice(0, 4), b"\x7fELF"), "an ELF vmcore; make a dump of it"),
        (lambda content: with_sub_header(content, split=1), "a part of a split dump; join the parts with makedumpfile"),
        (lambda content: with_header(content, block_size=0), "block size of 0 bytes"),
        (lambda content: with_header(content, block_size=-4096), "block size of -4096 bytes"),
        (lambda content: with_header(content, block_size=5000), "block size of 5000 bytes"),
        (lambda content: with_header(content, block_size=1 << 30), "block size of 1073741824 bytes"),
        (lambda content: with_header(content, sub_header_blocks=-7), "-7 blocks of sub-header"),
        (lambda content: with_header(content, sub_header_blocks=1 << 30), "it is cut"),
        (lambda content: with_header(content, bitmap_blocks=0), "0 of bitmaps"),
        (lambda content: with_header(content, bitmap_blocks=0xFFFFFFFF), "it is cut"),
        (lambda content: with_sub_header(content, max_mapnr_64=1 << 63), "page frames, more than a bitmap"),
        (lambda content: with_sub_header(content, max_mapnr_64=1 << 30), "page frames, more than a bitmap"),
        (lambda content: with_sub_header(content, notes_size=0), "no ELF notes"),
        (lambda content: with_sub_header(content, notes_size=1 << 40), "do not lie inside the sub-header"),
        (lambda content: with_sub_header(content, notes_offset=-(1 << 40)), "do not lie inside the sub-header"),
        (lambda content: with_sub_header(content, notes_offset=1 << 40), "do not lie inside the sub-header"),
        (lambda content: content.__delitem__(slice(60000, None)), "it is cut"),
    ],
)
def test_a_header_that_lies_is_refused_in_one_line(
    changed: Changed, tmp_path: Path, change: Change, problem: str
) -> None:
    with pytest.raises(DumpError) as caught:
        changed(change)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "changed"))
    assert "\n" not in str(caught.value)


def test_a_dump_cut_at_any_of_200_offsets_is_never_called_good(dump_path: Path, tmp_path: Path) -> None:
    content = dump_path.read_bytes()
    generator = random.Random(3)
    for size in (
        0,
        1,
        463,
        464,
        4096,
        4200,
        len(content) - 1,
        *(generator.randrange(len(content)) for _ in range(193)),
    ):
        (tmp_path / "cut").write_bytes(content[:size])
        try:
            with Dump.open(str(tmp_path / "cut")) as dump:
                verdict = verify(dump).verdict
        except DumpError as error:
            assert "\n" not in str(error)
            continue
        assert verdict == "damaged"
