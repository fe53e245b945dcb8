"""What lies in the reservation: the bytes that a load has put there, found once, and looked at again later.

The kernel tells that a crash kernel is loaded, and nothing of which: the one evidence is the reserved memory itself,
which /proc/kcore shows to root (Linux fs/proc/kcore.c: it lists all System RAM, of which the reservation is a part; a
loaded crash kernel is read-only there, arch/x86/kernel/machine_kexec_64.c). Not seen are kernels without /proc/kcore,
lockdown=confidentiality, and aarch64 to 6.3, which unmaps what it has loaded (0d124e96051b ended that). Called by
`plan.gather` and `plan.carry`. May import the standard library alone.
"""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple

KCORE = Path("/proc/kcore")

_HEADER = Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_PROGRAM_HEADER = Struct("<IIQQQQQQ")  # Elf64_Phdr
_PT_LOAD = 1
_MOST_HEADERS = 4096
_NEEDLE = 64  # bytes that a piece is looked for by
_MOST_COPIES = 8  # of a piece; of one with more there is no telling
_BLOCK = 1 << 20  # bytes of the reservation in hand at a time
_LARGEST_KERNEL = 256 << 20

#: x86's boot protocol (Documentation/arch/x86/boot.rst): the real-mode part of a bzImage is not loaded.
_SETUP_SECTORS, _SETUP_MAGIC, _SECTOR = 0x1F1, slice(0x202, 0x206), 512

Ranges = tuple[tuple[int, int], ...]


class Piece(NamedTuple):
    """Bytes of the loaded crash kernel: which, their physical address, their size and SHA-256."""

    name: str
    address: int
    size: int
    sha256: str


class Found(enum.Enum):
    """What the reservation holds: what was loaded, something else, or nothing can be told."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


class _Memory:
    """Physical memory as /proc/kcore shows it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        header = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
        count = min(header[10], _MOST_HEADERS)
        table = os.pread(descriptor, count * _PROGRAM_HEADER.size, header[5])
        whole = table[: len(table) - len(table) % _PROGRAM_HEADER.size]
        # (start, end, offset in the file); vmalloc and the like have no physical address, which reads as the last one.
        self._parts = [
            (fields[4], fields[4] + fields[5], fields[2])
            for fields in _PROGRAM_HEADER.iter_unpack(whole)
            if fields[0] == _PT_LOAD and fields[4] + fields[5] < 1 << 63
        ]

    def read(self, address: int, size: int) -> bytes:
        """The bytes at a physical address; fewer where memory is not shown."""
        for start, end, offset in self._parts:
            if start <= address < end:
                pieces, at = [], address
                while at < min(end, address + size):
                    piece = os.pread(self._descriptor, min(_BLOCK, address + size - at, end - at), offset + at - start)
                    if not piece:
                        break
                    pieces.append(piece)
                    at += len(piece)
                return b"".join(pieces)
        return b""


def payload(vmlinuz: bytes) -> bytes:
    """The part of a kernel's file that is loaded as it is: a bzImage without its real-mode part, else all of it."""
    if vmlinuz[_SETUP_MAGIC] != b"HdrS":
        return vmlinuz
    return vmlinuz[((vmlinuz[_SETUP_SECTORS] or 4) + 1) * _SECTOR :]


def _blocks(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """(address, size) of overlapping blocks, the last first: the kernel fills the reservation from its end."""
    for start, end in sorted(ranges, reverse=True):
        at = end
        while at > start:
            below = max(start, at - _BLOCK)
            yield below, min(end, at + _NEEDLE) - below
            at = below


def find(wanted: dict[str, bytes], ranges: Ranges, kcore: Path = KCORE) -> tuple[Piece, ...]:
    """Where these bytes lie in the reservation, by name; those that cannot be seen are left out.

    A load wipes nothing: the same vmlinuz, image or command line of an earlier one (by the other system call, by
    another program) may still lie elsewhere, and which copy would run cannot be told. All count: the real one is among
    them.
    """
    wanted = {name: data for name, data in wanted.items() if len(data) >= _NEEDLE}
    places: dict[str, set[int]] = {name: set() for name in wanted}
    try:
        descriptor = os.open(kcore, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        memory = _Memory(descriptor)
        for address, size in _blocks(ranges):
            block = memory.read(address, size)
            for name, data in wanted.items():
                places[name].update(_copies(memory, block, address, data))
    except (OSError, error):
        return ()
    finally:
        os.close(descriptor)
    return tuple(
        Piece(name, address, len(data), hashlib.sha256(data).hexdigest())
        for name, data in wanted.items()
        if len(places[name]) <= _MOST_COPIES
        for address in sorted(places[name])
    )


def _copies(memory: _Memory, block: bytes, address: int, data: bytes) -> Iterator[int]:
    """The addresses of whole copies that begin in this block, which lies at `address`."""
    at = block.find(data[:_NEEDLE])
    while at >= 0:
        if memory.read(address + at, len(data)) == data:
            yield address + at
        at = block.find(data[:_NEEDLE], at + 1)


def look(pieces: Iterable[Piece], kcore: Path = KCORE) -> Found:
    """Whether each piece still lies where it was found; unknown without any, or where memory cannot be read."""
    pieces = sorted(pieces, key=lambda piece: piece.size)  # the cheapest evidence first
    if not pieces:
        return Found.UNKNOWN
    try:
        descriptor = os.open(kcore, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Found.UNKNOWN
    try:
        memory = _Memory(descriptor)
        for piece in pieces:
            data = memory.read(piece.address, piece.size)
            if len(data) != piece.size:
                return Found.UNKNOWN
            if hashlib.sha256(data).hexdigest() != piece.sha256:
                return Found.OTHER
    except (OSError, error):
        return Found.UNKNOWN
    finally:
        os.close(descriptor)
    return Found.SAME


def of_load(vmlinuz: Path, image: Path, command_line: str, ranges: Ranges, kcore: Path = KCORE) -> tuple[Piece, ...]:
    """The pieces of a crash kernel that was just loaded, as far as they can be seen."""
    try:
        with vmlinuz.open("rb") as stream:
            kernel = payload(stream.read(_LARGEST_KERNEL))
        wanted = {"kernel": kernel, "image": image.read_bytes(), "command line": command_line.encode()}
    except OSError:
        return ()
    return find(wanted, ranges, kcore)
