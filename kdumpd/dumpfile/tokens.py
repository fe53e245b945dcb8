"""A token that several processes hold in turn: it carries the numbers that only its holder may read and change.

The token of a dump's workers is a message in a pipe: reading it takes it, writing it back passes it on. May import
`errors`.
"""

from __future__ import annotations

import os
import select
import struct
from typing import Protocol

from kdumpd.errors import DumpError

CONTENT = struct.Struct("=QQ")
POLL_SECONDS = 0.5  # how long a worker may outlive its parent while it waits


class Token(Protocol):
    """Two numbers that one process at a time may hold."""

    def take(self) -> tuple[int, int]:
        """Wait for the token; the holder must give it back."""

    def give(self, first: int, second: int = 0) -> None:
        """Pass the token on with new numbers."""


class LocalToken:
    """The token of a process that works alone."""

    def __init__(self, first: int, second: int = 0) -> None:
        self._content = (first, second)

    def take(self) -> tuple[int, int]:
        return self._content

    def give(self, first: int, second: int = 0) -> None:
        self._content = (first, second)


class PipeToken:
    """The token of workers that were forked after it was made; a worker whose parent has died gets a DumpError."""

    def __init__(self, first: int, second: int = 0) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._parent = os.getpid()
        self.give(first, second)

    def take(self) -> tuple[int, int]:
        while True:
            ready, _, _ = select.select([self._read], [], [], POLL_SECONDS)
            if os.getppid() != self._parent:
                raise DumpError("the process that writes the dump has died")
            if ready:
                try:
                    first, second = CONTENT.unpack(os.read(self._read, CONTENT.size))
                except BlockingIOError:  # another worker was faster
                    continue
                return first, second

    def give(self, first: int, second: int = 0) -> None:
        os.write(self._write, CONTENT.pack(first, second))

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
