"""A number or a name that a child sets and the runner still reads when that child hangs or is dead.

Called by `capture.drivers`, `capture.attempt` and `capture.probe`. May import the standard library alone.
"""

from __future__ import annotations

import mmap
import struct

_NUMBER = struct.Struct("=Q")
_NOTE = struct.Struct("=QQ")  # how many were set, bytes of the last


class Mark:
    """How far a step has come; made before the fork, in a page that both processes share."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, number: int) -> None:
        _NUMBER.pack_into(self._page, 0, number)

    def get(self) -> int:
        number: int = _NUMBER.unpack_from(self._page, 0)[0]
        return number


class Note:
    """A name, at most LONGEST bytes of it, and how many were set before it."""

    LONGEST = 1024

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")[: self.LONGEST]
        _NOTE.pack_into(self._page, 0, self.number + 1, len(data))
        self._page[_NOTE.size : _NOTE.size + len(data)] = data

    @property
    def number(self) -> int:
        number: int = _NOTE.unpack_from(self._page, 0)[0]
        return number

    @property
    def text(self) -> str:
        """Whole once the child stands still."""
        _, size = _NOTE.unpack_from(self._page, 0)
        return self._page[_NOTE.size : _NOTE.size + size].decode("utf-8", "surrogateescape")
