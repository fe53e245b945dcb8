"""What kdumpd tells about a dump inside the dump: an ELF note of owner "KDUMPD" behind the crashed kernel's own notes.

crash and libkdumpfile pass over notes whose owner they do not know. Its content is JSON padded with NULs to a fixed
size (with a checksum at its end), since the notes come first in the file and the summary is known last; while a dump
is incomplete it is empty. Called by the writer, the reader, `verify` and `info`.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import NamedTuple

from kdumpd import __version__
from kdumpd.errors import DumpError
from kdumpd.scan.selection import PageCounts
from kdumpd.vmcore.notes import notes_in, pack_note

OWNER = b"KDUMPD"
KIND = 0x4B44  # no type that crash looks at without the owner's name (NT_PRSTATUS is 1)
SIZE = 1024
CRC = struct.Struct("<I")  # the last bytes of the content: CRC-32 of those before
_SIGN = b'{"checksum":'  # how a summary starts, sorted as its keys are

# The page kinds of PageCounts that are numbers, in the order in which `info` prints them.
KINDS = ("total", "kept", "cache", "cache_private", "user", "free", "hwpoison", "offline", "hands_off")


class Summary(NamedTuple):
    """Pages by kind (`zero` among the kept ones), and CRC-32 of the file from its first byte to its last descriptor.

    The checksum takes the finished header and, where this summary lies, zeros.
    """

    version: str
    level: int
    pages: dict[str, int]
    checksum: int

    @classmethod
    def of(cls, level: int, counts: PageCounts, zero: int, checksum: int) -> Summary:
        pages = {kind: int(getattr(counts, kind)) for kind in KINDS}
        return cls(__version__, level, {**pages, "zero": zero}, checksum)


def with_room(notes: bytes) -> bytes:
    """The notes with an empty note of ours behind them."""
    return notes + bytes(-len(notes) % 4) + pack_note(OWNER, KIND, bytes(SIZE))


def filled(notes: bytes, summary: Summary) -> bytes:
    """The same notes, as long as before, with our note (the last one) telling the summary."""
    content = json.dumps(summary._asdict(), sort_keys=True, separators=(",", ":")).encode()
    content = content.ljust(SIZE - CRC.size, b"\0")[: SIZE - CRC.size]
    return notes[:-SIZE] + content + CRC.pack(zlib.crc32(content))


def read(notes: bytes) -> Summary | None:
    """The summary in a dump's notes, None where there is none; DumpError where it makes no sense."""
    place = room(notes)
    if place is None:
        if _SIGN in notes or OWNER + b"\0" in notes:
            raise DumpError("the dump's notes have a part of a KDUMPD note, but none that is whole: damaged notes")
        return None
    content = notes[place : place + SIZE - CRC.size]
    crc = CRC.unpack_from(notes, place + len(content))[0]
    if crc or content.strip(b"\0"):
        if crc != zlib.crc32(content):
            raise DumpError("the dump's KDUMPD note is not what was written: its checksum differs")
        try:
            fields = json.loads(content.rstrip(b"\0"))
            pages = {str(kind): int(number) for kind, number in fields["pages"].items()}
            return Summary(str(fields["version"]), int(fields["level"]), pages, int(fields["checksum"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DumpError(f"the dump's KDUMPD note cannot be read ({type(error).__name__}: {error})") from error
    return None


def room(notes: bytes) -> int | None:
    """Where in the notes the `SIZE` bytes of our note's content lie; None where there is no such note."""
    for note in notes_in(notes):
        if note.owner == OWNER and note.kind == KIND and note.size == SIZE:
            return note.offset
    return None
