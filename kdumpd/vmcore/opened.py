"""A file that is read as long as its object lives: opened, closed, and closed too when it is not what it should be.

What a `Vmcore` and a dump (`dumpfile.reader`) have in common. May import the standard library alone.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class OpenedFile:
    """An open file; a context manager. A subclass reads in `_begin` what it has to know of it."""

    def __init__(self, fd: int, name: str) -> None:
        """Take over `fd`: it is closed by `close`, or at once when `_begin` raises."""
        self.name = name
        self._fd = fd
        try:
            self._begin()
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the file at `path`; OSError when that cannot be done, and whatever `_begin` raises."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), path)  # a FIFO would wait for a writer

    def close(self) -> None:
        """Give up the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """What has to be known of the file is read; one that is not as it should be is refused."""
