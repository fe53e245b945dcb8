"""Locks in /run/kdumpd/asked, one for each question that a process apart asks of a disk, held until that one is gone.

What no signal ends keeps its descriptors, and with them its lock: that is how another kdumpd, ten minutes later, sees
that it hangs still. A file that is not empty says that who held it last did not end when it was killed. The files stay:
there are a few for each path, empty, in memory. Called by `prove.apart`. May import the standard library alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path


def lock(run: Path, question: str) -> Path:
    """The lock of a question."""
    return run / "kdumpd" / "asked" / hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def hold(path: Path) -> int | None:
    """The descriptor that holds it; BlockingIOError while another one does.

    None where none can be had: for who is not root, and where kdumpd has no folder in /run, its service not running.
    """
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def hangs(path: Path) -> bool:
    """Whether who holds it is known to hang."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def left(path: Path) -> None:
    """It is known from now on that who holds it hangs. A file system that is full has room for this."""
    with suppress(OSError):
        os.truncate(path, 1)
