"""Hostile vmcores: whatever the bytes, the answer is a result or a VmcoreError of one line, soon, in little memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import AARCH64, X86_64, parse
from kdumpd.vmcore.printk import messages
from kdumpd.vmcore.vmcore import Vmcore
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo
from tests.builders.printk import Record, put_log
from tests.builders.vmcore import MIB, STRUCTURES, VmcoreBuilder, elf_header, note
from tests.builders.vmcoreinfo import KERNEL_6_1, text

_MOST_MEMORY = 48 << 20  # bytes Python may hold; the notes alone may be 16 MiB

_FIXED = settings(max_examples=150, derandomize=True, database=None, deadline=timedelta(seconds=5))

# Words that damage makes of words: small, huge, near a power of two, negative.
_WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 200),
    st.builds(lambda bit, off: ((1 << bit) + off) % (1 << 64), st.integers(0, 64), st.integers(-2, 2)),
)


def _builder() -> VmcoreBuilder:
    builder = VmcoreBuilder(((0x100000, 11 * MIB),), mem_map_of=lambda section: 4 * MIB)
    builder.free_pages(7, 8)
    put_log(builder, [Record(b"record %d" % number, number) for number in range(40)])
    return builder


class _File:
    """A valid vmcore in memory, of which an example changes some bytes for its time."""

    def __init__(self, content: bytes) -> None:
        self.fd = os.memfd_create("vmcore")
        self.content = content
        os.pwrite(self.fd, content, 0)

    @contextmanager
    def changed(self, changes: dict[int, bytes]) -> Iterator[None]:
        for offset, change in changes.items():
            os.pwrite(self.fd, change, offset)
        try:
            yield
        finally:
            for offset, change in changes.items():
                os.pwrite(self.fd, self.content[offset : offset + len(change)], offset)
            os.ftruncate(self.fd, len(self.content))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_File]:
    path = _builder().save(tmp_path_factory.mktemp("fuzz") / "vmcore")
    made = _File(Path(path).read_bytes())
    yield made
    os.close(made.fd)


def _ask_everything(fd: int) -> None:
    """Ask all that can be asked; only a VmcoreError of one line may stop an answer."""
    tracemalloc.start()
    try:
        with Vmcore(os.dup(fd), "vmcore") as core:
            for question in (lambda: core.uname, core.free_pages, core.mem_map, core.dmesg, lambda: core.crash_time):
                try:
                    answer = question()
                    if isinstance(answer, Iterator):
                        for _ in answer:
                            pass
                except VmcoreError as error:
                    _one_line(error)
            try:
                core.memory.read_page(core.max_pfn - 1)
            except VmcoreError as error:
                _one_line(error)
    except VmcoreError as error:
        _one_line(error)
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < _MOST_MEMORY


def _one_line(error: VmcoreError) -> None:
    message = str(error)
    assert message.startswith("vmcore: ")
    assert "\n" not in message
    assert len(message) < 400


@_FIXED
@given(st.binary(max_size=8192), st.sampled_from([b"", b"\x7fELF\x02\x01\x01", elf_header(62, 3)]))
def test_any_bytes_are_a_vmcore_or_an_error(content: bytes, start: bytes) -> None:
    fd = os.memfd_create("vmcore")
    try:
        os.pwrite(fd, start + content, 0)
        _ask_everything(fd)
    finally:
        os.close(fd)


@_FIXED
@given(st.lists(st.tuples(st.integers(0, 64 + 56 * 3), st.sampled_from([1, 2, 4, 8]), _WORDS), min_size=1, max_size=4))
def test_damaged_headers(file: _File, damage: list[tuple[int, int, int]]) -> None:
    with file.changed({at: (word % (1 << 8 * size)).to_bytes(size, "little") for at, size, word in damage}):
        _ask_everything(file.fd)


@_FIXED
@given(st.lists(st.tuples(st.integers(64 + 56 * 3, 4096), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))
def test_damaged_notes(file: _File, damage: list[tuple[int, bytes]]) -> None:
    with file.changed(dict(damage)):
        _ask_everything(file.fd)


@settings(_FIXED, max_examples=60)
@given(st.integers(0, 11 * MIB))
def test_a_vmcore_cut_anywhere(file: _File, size: int) -> None:
    with file.changed({size: file.content[size:]}):
        os.ftruncate(file.fd, size)
        with pytest.raises(VmcoreError):
            Vmcore(os.dup(file.fd), "vmcore")


@_FIXED
@given(st.binary(max_size=4096), st.integers(0, 3), st.sampled_from([0, 1, 6]), _WORDS)
def test_any_note_is_passed_over_or_refused(descriptor: bytes, padding: int, kind: int, lie: int) -> None:
    notes = bytearray(note(b"CORE", kind, descriptor) + bytes(padding))
    notes[4:8] = pack("<I", lie % (1 << 32)) if lie % 3 == 0 else notes[4:8]
    notes += note(b"VMCOREINFO", 0, b"PAGESIZE=4096\n")
    start = 64 + 2 * 56
    headers = pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(notes), len(notes), 0)
    headers += pack("<IIQQQQQQ", 1, 7, 0, 0, 4096, 64, 64, 0)
    fd = os.memfd_create("vmcore")
    try:
        os.pwrite(fd, elf_header(62, 2) + headers + bytes(notes), 0)
        core = parse(fd, "vmcore")
        found = core.notes[core.vmcoreinfo[0] : sum(core.vmcoreinfo)]
        assert found in (b"PAGESIZE=4096\n", b"")  # a lie may swallow the note that follows
    except VmcoreError as error:
        _one_line(error)
    finally:
        os.close(fd)


_VALUES = st.one_of(
    st.none(),
    _WORDS.map(str),
    _WORDS.map(lambda word: str(-word)),
    _WORDS.map(lambda word: f"{word:x}"),
    st.text(max_size=12),
)


@settings(_FIXED, max_examples=100)
@given(st.dictionaries(st.sampled_from(sorted(_builder().info)), _VALUES, min_size=1, max_size=5))
def test_absurd_vmcoreinfo(tmp_path_factory: pytest.TempPathFactory, damage: dict[str, str | None]) -> None:
    builder = _builder()
    builder.info.update(damage)
    fd = os.open(builder.save(tmp_path_factory.getbasetemp() / "absurd"), os.O_RDONLY)
    try:
        _ask_everything(fd)
    finally:
        os.close(fd)


@_FIXED
@given(st.binary(max_size=2000))
def test_any_bytes_are_vmcoreinfo_or_an_error(content: bytes) -> None:
    try:
        info = VmcoreInfo(b"PAGESIZE=4096\n" + content, "vmcore")
        info.number("x")
        info.symbol("prb")
    except VmcoreError as error:
        _one_line(error)


# Where what the kernel keeps about itself lies in the file: the second PT_LOAD starts behind the first's 2 MiB.
_MEMORY = 4096 + 2 * MIB - 0x100000
_TABLES = st.integers(0x300000, 0x312000)
_SECTIONS = st.integers(0x204000, 0x204000 + 0x9000)
_RING = st.integers(0x220000, 0x221100)
_DESCRIPTORS = st.integers(STRUCTURES, STRUCTURES + 24 * 40)
_INFOS = st.integers(STRUCTURES + MIB, STRUCTURES + MIB + 88 * 40)
_NODES = st.integers(0x201000, 0x203000)
_PLACES = st.one_of(_TABLES, _SECTIONS, _RING, _DESCRIPTORS, _INFOS, _NODES).map(lambda place: place & ~7)
_POINTERS = st.one_of(
    _WORDS,
    st.integers(0, 0x400).map(lambda page: page << 12 | 0x67),  # page tables that point to each other
    st.integers(0, 0x400).map(lambda page: page << 12 | 0xE7),
    st.integers(0, 11 * MIB).map(lambda place: 0xFFFF888000000000 + place),
)


@settings(_FIXED, max_examples=300)
@given(st.dictionaries(_PLACES, _POINTERS, min_size=1, max_size=8))
def test_damaged_kernel_memory(file: _File, damage: dict[int, int]) -> None:
    with file.changed({_MEMORY + place: pack("<Q", word) for place, word in damage.items()}):
        _ask_everything(file.fd)


@_FIXED
@given(st.integers(0), st.integers(0, 2), st.sampled_from([X86_64, AARCH64]))
def test_any_bytes_are_a_ring_or_an_error(seed: int, bits: int, machine: int) -> None:
    content = Random(seed).randbytes(8192)
    info = VmcoreInfo(text({**KERNEL_6_1, "SYMBOL(prb)": "ffffffff80000000"}), "vmcore")

    def read(address: int, size: int) -> bytes:
        start = address % 2048
        found = content[start : start + size]
        if address == 0xFFFFFFFF80000000:
            return bytes(8)
        if size == 80:
            return pack("<I", bits) + found[4:40] + pack("<I", bits + 8) + found[44:]
        if len(found) < size:
            raise VmcoreError(f"vmcore: virtual {address:#x} is not mapped in the crashed kernel")
        return found

    try:
        assert sum(1 for _ in messages(info, read, machine)) <= 1 << bits
    except VmcoreError as error:
        _one_line(error)
