"""ELF notes, as vmcores and KDUMP dumps have them: walked and packed.

Pure. Called by `vmcore.elf`, `vmcore.note_search` and `dumpfile`. May import the standard library alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

NOTE = Struct("<III")  # Elf64_Nhdr: name size, content size, type


class Note(NamedTuple):
    """An ELF note: its owner, type, and where its content lies inside the notes."""

    owner: bytes
    kind: int
    offset: int
    size: int


def padded(size: int) -> int:
    """The bytes that a name or content of this size takes."""
    return size + 3 & ~3


def entries(notes: bytes) -> Iterator[Note]:
    """Each header in order, an empty one with the owner "". The content of the last may go past the end: look first."""
    position = 0
    while position + NOTE.size <= len(notes):
        name_size, size, kind = NOTE.unpack_from(notes, position)
        name = position + NOTE.size
        offset = name + padded(name_size)
        yield Note(notes[name : name + name_size].rstrip(b"\0"), kind, offset, size)
        position = offset + padded(size)


def notes_in(notes: bytes) -> Iterator[Note]:
    """The notes in order; what is cut or empty is left out (crash_notes may end in zeros)."""
    return (note for note in entries(notes) if note.owner and note.offset + note.size <= len(notes))


def pack_note(owner: bytes, kind: int, content: bytes) -> bytes:
    """One note with name and content padded to 4 bytes."""
    name = owner + b"\0"
    header = NOTE.pack(len(name), len(content), kind)
    return b"".join((header, name.ljust(padded(len(name)), b"\0"), content.ljust(padded(len(content)), b"\0")))
