"""The ELF headers of a vmcore: read as pyelftools reads them, and refused in one line when they cannot be true."""

from __future__ import annotations

import os
import time
from pathlib import Path
from struct import pack, pack_into, unpack_from

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import AARCH64, ElfCore, parse
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import MIB, VmcoreBuilder, elf_header, note

_PHNUM = 56  # offset in the ELF header
_FIRST_LOAD = 64 + 56  # the program header behind PT_NOTE


def _parse(path: str | Path) -> ElfCore:
    fd = os.open(path, os.O_RDONLY)
    try:
        return parse(fd, "vmcore")
    finally:
        os.close(fd)


def _refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(VmcoreError) as caught:
        _parse(path)
    message = str(caught.value)
    assert message.startswith("vmcore: ")
    assert "\n" not in message
    return message


def _small() -> VmcoreBuilder:
    return VmcoreBuilder(ranges=((0x100000, 3 * MIB),))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid vmcore of a few MiB."""
    path = tmp_path_factory.mktemp("elf") / "vmcore"
    return Path(_small().save(path)).read_bytes()


def test_headers_agree_with_pyelftools(tmp_path: Path) -> None:
    path = VmcoreBuilder(processors=3).save(tmp_path / "vmcore")
    core = _parse(path)
    with Path(path).open("rb") as file:
        theirs = ELFFile(file)
        loads = [segment for segment in theirs.iter_segments() if segment["p_type"] == "PT_LOAD"]
        notes = [
            n for segment in theirs.iter_segments() if isinstance(segment, NoteSegment) for n in segment.iter_notes()
        ]
        assert [tuple(segment) for segment in core.segments] == [
            (s["p_paddr"], s["p_vaddr"], s["p_memsz"], s["p_filesz"], s["p_offset"]) for s in loads
        ]
        assert core.prstatus_count == sum(n["n_type"] == "NT_PRSTATUS" for n in notes) == 3
        (vmcoreinfo,) = [n for n in notes if n["n_name"] == "VMCOREINFO"]
        start, size = core.vmcoreinfo
        assert core.notes[start : start + size] == vmcoreinfo["n_descdata"]
        assert core.machine == 62


def test_aarch64_is_read_alike(tmp_path: Path) -> None:
    assert _parse(VmcoreBuilder(machine=AARCH64).save(tmp_path / "vmcore")).machine == AARCH64


def test_notes_in_any_order_and_in_several_segments(tmp_path: Path) -> None:
    vmcoreinfo = note(b"VMCOREINFO", 0, b"PAGESIZE=4096\n")
    first = vmcoreinfo + note(b"CORE", 1, bytes(336)) + bytes(64)  # padded as /proc/vmcore pads
    second = note(b"CORE", 1, bytes(336)) + note(b"QEMU", 0, bytes(432))
    start = 64 + 3 * 56
    headers = [
        pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(first), len(first), 0),
        pack("<IIQQQQQQ", 4, 0, start + len(first), 0, 0, len(second), len(second), 0),
        pack("<IIQQQQQQ", 1, 7, start, 0, 4096, 64, 64, 0),
    ]
    path = tmp_path / "vmcore"
    path.write_bytes(elf_header(62, 3) + b"".join(headers) + first + second)
    core = _parse(path)
    assert core.prstatus_count == 2
    assert core.notes[core.vmcoreinfo[0] : sum(core.vmcoreinfo)] == b"PAGESIZE=4096\n"


def test_more_program_headers_than_the_header_can_count(tmp_path: Path) -> None:
    count = 70000
    notes = note(b"VMCOREINFO", 0, b"PAGESIZE=4096\n")
    table = 64 + count * 56
    headers = bytearray(pack("<IIQQQQQQ", 4, 0, table, 0, 0, len(notes), len(notes), 0))
    for index in range(count - 1):
        headers += pack("<IIQQQQQQ", 1, 7, 0, 0, index * 8192, 4096, 4096, 0)
    section = pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    path = tmp_path / "vmcore"
    header = elf_header(62, 0xFFFF, section_offset=table + len(notes), sections=1)
    path.write_bytes(header + bytes(headers) + notes + section)
    assert len(_parse(path).segments) == count - 1


def test_65536_notes_are_read_at_once(tmp_path: Path) -> None:
    count = 65536
    table = 64 + count * 56
    headers = pack("<IIQQQQQQ", 4, 0, table, 0, 0, 12, 12, 0) * (count - 1)
    headers += pack("<IIQQQQQQ", 1, 7, table, 0, 4096, 64, 64, 0)
    section = pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    path = tmp_path / "vmcore"
    path.write_bytes(elf_header(62, 0xFFFF, section_offset=table + 64, sections=1) + headers + bytes(64) + section)
    start = time.process_time()
    assert len(_parse(path).notes) == 12 * (count - 1)
    assert time.process_time() - start < 5  # seconds; adding their sizes up for each takes minutes


def test_segments_that_share_the_files_bytes_beyond_reason_are_refused(tmp_path: Path) -> None:
    count = 1000
    start = 64 + count * 56
    headers = b"".join(pack("<IIQQQQQQ", 1, 7, start, 0, n << 23, 1 << 23, 1 << 23, 0) for n in range(count))
    path = tmp_path / "vmcore"
    with path.open("wb") as file:
        file.write(elf_header(62, count) + headers)
        file.truncate(start + (1 << 23))
    with pytest.raises(VmcoreError, match="the PT_LOADs hold 8388608000 bytes of a file of"):
        _parse(path)


def test_segment_without_a_physical_address_or_without_memory_is_passed_over(tmp_path: Path, whole: bytes) -> None:
    content = bytearray(whole)
    pack_into("<Q", content, _FIRST_LOAD + 24, (1 << 64) - 1)
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    assert len(_parse(path).segments) == 1


def test_memory_that_is_not_stored_needs_no_offset(tmp_path: Path, whole: bytes) -> None:
    content = bytearray(whole)
    pack_into("<Q", content, _FIRST_LOAD + 8, (1 << 64) - 1)
    pack_into("<Q", content, _FIRST_LOAD + 32, 0)
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    assert _parse(path).segments[0].file_size == 0


def test_every_cut_is_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "vmcore"
    size = len(whole)
    cuts = {0, 1, 63, 64, 65, 119, 120, *range(0, 6000, 60), *range(0, size, size // 100)}
    assert len(cuts) > 200
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(VmcoreError):
            Vmcore.open(str(path))


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (4, "<B", 1, "not a little-endian ELF64"),
        (5, "<B", 2, "not a little-endian ELF64"),
        (16, "<H", 2, "not a core"),
        (18, "<H", 3, "machine 3 is not supported"),
        (54, "<H", 32, "program headers of 32 bytes"),
        (_PHNUM, "<H", 0, "no program headers"),
        (_PHNUM, "<H", 1, "no PT_LOAD"),
        (32, "<Q", (1 << 64) - 1, "program headers would end"),
        (64 + 32, "<Q", 1 << 40, "notes of more than"),
        (64 + 8, "<Q", 1 << 63, "would end at offset"),
        (_FIRST_LOAD + 8, "<Q", 1 << 63, "the file is cut"),
        (_FIRST_LOAD + 24, "<Q", (1 << 64) - 4096, "do not fit a physical address"),
        (_FIRST_LOAD + 40, "<Q", (1 << 64) - 4096, "do not fit a physical address"),
        (_FIRST_LOAD + 40, "<Q", 1 << 51, "bytes of memory in"),
        (_FIRST_LOAD + 40, "<Q", 4096, "in the file for 4096"),
        (_FIRST_LOAD + 32, "<Q", (1 << 64) - 1, "in the file for"),
    ],
)
def test_a_header_that_cannot_be_true_is_named(
    tmp_path: Path, whole: bytes, offset: int, form: str, value: int, message: str
) -> None:
    content = bytearray(whole)
    pack_into(form, content, offset, value)
    assert message in _refusal(tmp_path / "vmcore", bytes(content))


def test_a_count_beyond_reason_is_refused_before_it_is_read(tmp_path: Path, whole: bytes) -> None:
    content = bytearray(whole)
    pack_into("<H", content, _PHNUM, 0xFFFF)
    pack_into("<Q", content, 40, len(content))
    section = pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0, 0)
    assert "4294967295 program headers" in _refusal(tmp_path / "vmcore", bytes(content) + section)


@pytest.mark.parametrize("field", [0, 4])
def test_a_note_that_lies_about_its_size_is_refused(tmp_path: Path, whole: bytes, field: int) -> None:
    content = bytearray(whole)
    (notes,) = unpack_from("<Q", content, 64 + 8)
    pack_into("<I", content, notes + field, 0xFFFFFFFF)
    assert "damaged notes" in _refusal(tmp_path / "vmcore", bytes(content))


def test_missing_vmcoreinfo_says_how_qemu_writes_it(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(whole.replace(b"VMCOREINFO\0", b"SOMETHING_\0"))
    assert _parse(path).vmcoreinfo[1] == 0
    with pytest.raises(VmcoreError, match="-device vmcoreinfo"):
        Vmcore.open(str(path))


@pytest.mark.parametrize("content", [b"", bytes(10000), b"KDUMP   " + bytes(5000), os.urandom(10000)])
def test_what_is_no_vmcore_is_refused(tmp_path: Path, content: bytes) -> None:
    _refusal(tmp_path / "vmcore", content)


def test_other_formats_are_named(tmp_path: Path) -> None:
    assert "but a dump in KDUMP format already" in _refusal(tmp_path / "vmcore", b"KDUMP   " + bytes(5000))
    assert "makedumpfile -R" in _refusal(tmp_path / "vmcore", b"makedumpfile\0" + bytes(5000))


def test_a_fifo_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(VmcoreError, match="give a file"):
        Vmcore.open(str(tmp_path / "fifo"))


def test_a_pipe_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(VmcoreError, match="give a file"):
            parse(reading, "stdin")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VmcoreError):
        Vmcore.open(str(tmp_path))


def test_memory_beyond_the_kernels_address_bits_is_refused(tmp_path: Path) -> None:
    builder = VmcoreBuilder(ranges=((0x100000, 24 * MIB),), info={"NUMBER(MAX_PHYSMEM_BITS)": "32"})
    builder.ranges = (*builder.ranges, (1 << 33, (1 << 33) + 4096))
    with pytest.raises(VmcoreError, match="32 bits"):
        Vmcore.open(builder.save(tmp_path / "vmcore"))
