"""A number that a child sets and the runner still reads when that child hangs or is dead.

Called by `capture.drivers` and `capture.attempt`. May import the standard library alone.
"""

from __future__ import annotations

import mmap
import struct

_NUMBER = struct.Struct("=Q")


class Mark:
    """How far a step has come; made before the fork, in a page that both processes share."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, number: int) -> None:
        _NUMBER.pack_into(self._page, 0, number)

    def get(self) -> int:
        number: int = _NUMBER.unpack_from(self._page, 0)[0]
        return number
