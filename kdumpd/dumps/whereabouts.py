"""Whether a crash's directory is still where it is on record, or only has another name there now.

Called by `status.records`. May import `dumps.crashes`, `dumps.folder` and `dumps.told`.
"""

from __future__ import annotations

import itertools
import os
from typing import NamedTuple

from kdumpd.dumps.crashes import lasting
from kdumpd.dumps.folder import DUMP, identity, opened
from kdumpd.dumps.told import RECORD

_MOST = 10_000  # directories of a target that are looked at


class Found(NamedTuple):
    """`path` is the directory (None: it is gone); `dump` whether a file has the dump's name in it.

    `problem` is why that cannot be told at this moment, "" where it can.
    """

    path: str | None
    dump: bool
    problem: str = ""


def find(path: str, named: str) -> Found:
    """The directory that was `named` (its identity) at `path`, there or under another name beside it."""
    try:
        found = _dump(path, named)
        if found is not None:
            return Found(path, found)
        other = _renamed(path, named) if lasting(named) else None
        return other or Found(None, dump=False)
    except OSError as error:
        return Found(path, dump=True, problem=f"{path}: cannot be looked at: {error.strerror}")


def _dump(path: str, named: str) -> bool | None:
    """Whether the directory holds the dump; None where it is not there, or is another one."""
    try:
        with opened(path, follow=False) as here:
            if identity(os.fstat(here), _status(here, RECORD)) != named:
                return None
            return _status(here, DUMP) is not None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _renamed(path: str, named: str) -> Found | None:
    target = os.path.dirname(path)
    try:
        with os.scandir(target) as entries:
            first = itertools.islice(entries, _MOST)
            same = [entry.path for entry in first if named.startswith(f"{entry.inode()}-")]
    except (FileNotFoundError, NotADirectoryError):
        return None
    for other in same:
        found = _dump(other, named)
        if found is not None:
            return Found(other, found)
    return None


def _status(here: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return None
