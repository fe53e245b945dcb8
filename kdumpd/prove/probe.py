"""The write probe: a file on the target's file system is written, on the disk, read back from it, and gone again.

Called by `prove.proof` in a process apart, since any of this may hang. May import `errors`.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from kdumpd.errors import TargetError

_PREFIX = ".kdumpd-probe-"
_SIZE = 4096

#: What to do about an error of the system, by its number.
_REMEDIES = {
    errno.EROFS: "its file system is mounted read-only; see the kernel's log for why, then remount it read-write",
    errno.ENOSPC: "remove what is not needed there",
    errno.EDQUOT: "raise root's quota there",
    errno.EIO: "the disk fails; see the kernel's log, and name another target",
    errno.EACCES: "run it as root",
    errno.EPERM: "the directory may be immutable (lsattr), or this is not root",
    errno.ENOTDIR: "name a directory",
}


def nearest(path: Path) -> Path:
    """The directory itself, or the nearest one above it that there is: what is missing is made when a crash is saved.

    TargetError where something else is in the way.
    """
    for here in (path, *path.parents):
        try:
            found = here.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TargetError(_line(f"{here} cannot be looked at", error)) from error
        if not stat.S_ISDIR(found.st_mode):
            raise TargetError(f"{here} is no directory; name a directory")
        return here
    raise TargetError(f"{path}: there is no directory above it; name one by its whole path")


def write_and_read(directory: Path) -> int:
    """The free bytes there (those for root alone not counted), after a file was written, synced, read back and removed.

    TargetError says what could not be done.
    """
    _sweep(directory)
    path = directory / f"{_PREFIX}{os.getpid()}"
    content = secrets.token_bytes(_SIZE)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TargetError(_line("no file can be made there", error)) from error
    try:
        _written(descriptor, content)
    finally:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize


def _written(descriptor: int, content: bytes) -> None:
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        # Else it would be read from memory, whatever the disk has.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        found = os.pread(descriptor, _SIZE, 0)
    except OSError as error:
        raise TargetError(_line("a file there cannot be written and read back", error)) from error
    if found != content:
        raise TargetError("a file there reads back as something else; the disk or its file system is damaged: check it")


def _sweep(directory: Path) -> None:
    """Probe files of processes that are gone (killed, or a power cut) are gone too."""
    with suppress(OSError):
        for path in directory.glob(f"{_PREFIX}*"):
            pid = path.name.removeprefix(_PREFIX)
            if pid.isdigit() and not Path("/proc", pid).exists():
                path.unlink()


def _line(what: str, error: OSError) -> str:
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{what}: {error.strerror}" + (f"; {remedy}" if remedy else "; see the kernel's log")
