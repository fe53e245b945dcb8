"""The ELF64 headers of a vmcore: where physical memory lies in the file, and the crashed kernel's notes.

Reads /proc/vmcore, a file it was copied to, and QEMU's `dump-guest-memory`. Every number in the file is checked before
it is used: what comes back lies inside the file. The structures are declared here instead of taken from pyelftools
because the capture kernel pays for every import; tests compare the two. Called by `vmcore.vmcore`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from struct import Struct
from typing import NamedTuple, overload

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.notes import entries, padded

X86_64 = 62
AARCH64 = 183

_HEADER = Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_PROGRAM_HEADER = Struct("<IIQQQQQQ")  # Elf64_Phdr
_SECTION_HEADER = Struct("<IIQQQQIIQQ")  # Elf64_Shdr

_IDENT = b"\x7fELF\x02\x01\x01"  # ELF, 64 bits, little endian, version 1
_ET_CORE = 4
_PT_LOAD = 1
_PT_NOTE = 4
_PN_XNUM = 0xFFFF  # the real number of program headers is in sh_info of section header 0
_NT_PRSTATUS = 1
_NO_ADDRESS = 0xFFFFFFFFFFFFFFFF

_PHYSICAL_LIMIT = 1 << 52  # bytes: the widest physical address of x86_64 and of aarch64
_MOST_PROGRAM_HEADERS = 1 << 17
_HEADERS_AT_ONCE = 1 << 10
_MOST_PARTS = 16  # of PT_LOADs in order that are merged; more are sorted
_MOST_UNSTORED = 4096  # bytes of memory for each byte in the file: page structures alone are 1 in 64
_MOST_TIMES_STORED = 2  # the file's bytes as memory: x86_64 has the kernel's image a second time
_SMALL_FILE = 1 << 30  # bytes
_MOST_NOTES = 16 << 20  # bytes: 8192 processors leave about 3 MiB


class Segment(NamedTuple):
    """One PT_LOAD; all in bytes. `virtual` is 0 where the writer knew none (QEMU without paging)."""

    physical: int
    virtual: int
    memory_size: int
    file_size: int
    offset: int


class Segments(Sequence[Segment]):
    """PT_LOADs in file order, 40 bytes each: a machine to which memory was added piece by piece has thousands."""

    def __init__(self, segments: Sequence[Segment] = ()) -> None:
        self._words = array("Q")
        for segment in segments:
            self.append(segment)

    def append(self, segment: Segment) -> None:
        self._words.extend(segment)

    def __len__(self) -> int:
        return len(self._words) // len(Segment._fields)

    @overload
    def __getitem__(self, index: int) -> Segment: ...

    @overload
    def __getitem__(self, index: slice) -> Segments: ...

    def __getitem__(self, index: int | slice) -> Segment | Segments:
        if isinstance(index, slice):
            return Segments([self[at] for at in range(*index.indices(len(self)))])
        at = range(len(self))[index] * len(Segment._fields)
        return Segment(*self._words[at : at + len(Segment._fields)])

    def ascending(self) -> Iterator[Segment]:
        """Yield them by physical address; in file order where that is the same."""
        physical = self._words[:: len(Segment._fields)]
        starts = [at for at in range(len(self)) if not at or physical[at] < physical[at - 1]]
        if len(starts) > _MOST_PARTS:
            for at in sorted(range(len(self)), key=physical.__getitem__):
                yield self[at]
            return
        # Most files have them in order but for the kernel's image: a few parts in order are merged without a list.
        parts = [[start, end] for start, end in pairwise((*starts, len(self)))]
        while parts:
            part = min(parts, key=lambda part: physical[part[0]])
            yield self[part[0]]
            part[0] += 1
            if part[0] == part[1]:
                parts.remove(part)


class ElfCore(NamedTuple):
    """What the headers say: segments in file order, all PT_NOTEs in one piece, and where VMCOREINFO lies in that.

    `vmcoreinfo` is (offset, size) of the descriptor in `notes`; the size is 0 when there is no such note.
    """

    machine: int
    segments: Segments
    notes: bytes
    vmcoreinfo: tuple[int, int]
    prstatus_count: int
    file_size: int


def parse(fd: int, name: str) -> ElfCore:
    """Return the checked headers of the vmcore open at `fd`; `name` is what errors call it.

    Raises VmcoreError for whatever is not a whole, sane ELF64 core of x86_64 or aarch64.
    """
    file = _File(fd, name)
    header = _HEADER.unpack(file.read(0, _HEADER.size, "the ELF header"))
    ident, elf_type, machine, header_offset, section_offset = header[0], header[1], header[2], header[5], header[6]
    entry_size, count = header[9], header[10]
    if not ident.startswith(_IDENT):
        raise VmcoreError(f"{name}: not a little-endian ELF64 file{_found(ident)}; give an ELF vmcore, as /proc/vmcore")
    if elf_type != _ET_CORE:
        raise VmcoreError(f"{name}: an ELF file of type {elf_type}, not a core (4); give a vmcore")
    if machine not in (X86_64, AARCH64):
        raise VmcoreError(f"{name}: ELF machine {machine} is not supported; x86_64 (62) and aarch64 (183) are")
    if entry_size != _PROGRAM_HEADER.size:
        raise VmcoreError(f"{name}: program headers of {entry_size} bytes, not {_PROGRAM_HEADER.size}: damaged header")
    if count == _PN_XNUM and section_offset:
        section = _SECTION_HEADER.unpack(file.read(section_offset, _SECTION_HEADER.size, "section header 0"))
        count = section[7]
    if count == 0:
        raise VmcoreError(f"{name}: no program headers: the file holds no memory")
    if count > _MOST_PROGRAM_HEADERS:
        raise VmcoreError(f"{name}: {count} program headers, more than {_MOST_PROGRAM_HEADERS}: damaged header")

    segments = Segments()
    memory = stored = 0
    pieces: list[bytes] = []
    note_bytes = 0
    for index, entry in enumerate(_program_headers(file, header_offset, count)):
        kind, _flags, offset, virtual, physical, file_size, memory_size, _align = entry
        if kind == _PT_NOTE:
            note_bytes += file_size
            if note_bytes > _MOST_NOTES:
                raise VmcoreError(f"{name}: notes of more than {_MOST_NOTES} bytes (program header {index}): damaged")
            pieces.append(file.read(offset, file_size, f"notes (program header {index})"))
        elif kind == _PT_LOAD and memory_size and physical != _NO_ADDRESS:
            segment = Segment(physical, virtual, memory_size, file_size, offset)
            _check(segment, f"{name}: PT_LOAD (program header {index})", file.size)
            segments.append(segment)
            memory += memory_size
            stored += file_size
    if not segments:
        raise VmcoreError(f"{name}: no PT_LOAD: the file holds no memory")

    if memory > _MOST_UNSTORED * stored:
        raise VmcoreError(f"{name}: the file says it holds {memory} bytes of memory in {stored}: damaged header")
    if stored > _MOST_TIMES_STORED * max(file.size, _SMALL_FILE):
        raise VmcoreError(f"{name}: the PT_LOADs hold {stored} bytes of a file of {file.size}: damaged header")

    notes = b"".join(pieces)
    vmcoreinfo, prstatus_count = _survey(pieces, name)
    return ElfCore(machine, segments, notes, vmcoreinfo, prstatus_count, file.size)


def _program_headers(file: _File, offset: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield the fields of each; not all are held at once, since there may be a hundred thousand."""
    what = f"{count} program headers"
    file.require(offset, count * _PROGRAM_HEADER.size, what)
    for first in range(0, count, _HEADERS_AT_ONCE):
        size = min(count - first, _HEADERS_AT_ONCE) * _PROGRAM_HEADER.size
        yield from _PROGRAM_HEADER.iter_unpack(file.read(offset + first * _PROGRAM_HEADER.size, size, what))


def _found(ident: bytes) -> str:
    """What the file is instead, where that is known."""
    if ident.startswith(b"KDUMP   "):
        return " but a dump in KDUMP format already"
    return " but a flattened dump (makedumpfile -R makes a file of it)" if ident.startswith(b"makedumpfile") else ""


class _File:
    """The open vmcore; reads only what lies inside it."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        try:
            # A block device has no st_size, /proc/vmcore has.
            self.size = os.fstat(fd).st_size or os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            raise VmcoreError(f"{name}: cannot be read at an offset ({error.strerror}); give a file") from error

    def require(self, offset: int, size: int, what: str) -> None:
        """VmcoreError unless the file is long enough."""
        if offset + size > self.size:
            raise VmcoreError(
                f"{self.name}: {what} would end at offset {offset + size}, "
                f"the file at {self.size}: the file is cut or its header damaged"
            )

    def read(self, offset: int, size: int, what: str) -> bytes:
        self.require(offset, size, what)
        try:
            content = os.pread(self.fd, size, offset)
        except OSError as error:
            raise VmcoreError(f"{self.name}: {what} at offset {offset}: {error.strerror}") from error
        if len(content) != size:
            raise VmcoreError(f"{self.name}: {what} at offset {offset}: {len(content)} bytes came instead of {size}")
        return content


def _check(segment: Segment, what: str, file_size: int) -> None:
    """Refuse a segment that cannot be true."""
    if segment.physical + segment.memory_size > _PHYSICAL_LIMIT:
        raise VmcoreError(
            f"{what}: {segment.memory_size} bytes at physical {segment.physical:#x} do not fit a physical "
            "address: damaged header"
        )
    if segment.file_size > segment.memory_size:
        raise VmcoreError(
            f"{what}: {segment.file_size} bytes in the file for {segment.memory_size} of memory: damaged header"
        )
    if segment.file_size and segment.offset + segment.file_size > file_size:
        raise VmcoreError(
            f"{what}: ends at offset {segment.offset + segment.file_size}, the file at {file_size}: the file is cut"
        )


def with_note(core: ElfCore, content: bytes) -> ElfCore:
    """Return `core` with a VMCOREINFO note, found elsewhere, behind its own notes."""
    notes = core.notes.ljust(padded(len(core.notes)), b"\0")
    (offset, size), _ = _survey([content], "VMCOREINFO in memory")
    return core._replace(notes=notes + content, vmcoreinfo=(len(notes) + offset, size))


def _survey(pieces: list[bytes], name: str) -> tuple[tuple[int, int], int]:
    """Return where VMCOREINFO's descriptor lies in the joined pieces (offset, size), and how many PRSTATUS notes are.

    The order of notes means nothing. An empty header ends a segment, as in the kernel's own merge (fs/proc/vmcore.c).
    """
    vmcoreinfo = (0, 0)
    prstatus_count = 0
    start = 0
    for piece in pieces:
        for note in entries(piece):
            if not note.owner:
                break
            if note.offset + note.size > len(piece):
                raise VmcoreError(
                    f"{name}: a note ends at byte {start + note.offset + note.size} of the notes, its segment at byte "
                    f"{start + len(piece)}: damaged notes"
                )
            if note.owner == b"VMCOREINFO" and not vmcoreinfo[1]:
                vmcoreinfo = (start + note.offset, note.size)
            elif note.owner == b"CORE" and note.kind == _NT_PRSTATUS:
                prstatus_count += 1
        start += len(piece)
    return vmcoreinfo, prstatus_count
