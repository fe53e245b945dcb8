"""A JSON document under /var/lib/kdumpd: replaced in one step, for root alone.

Called by what keeps a record there (`prove`, `rehearse`). May import `errors`.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kdumpd.errors import HostError

#: What to do where nothing can be written, by the system's error number.
_REMEDIES = {
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "see the kernel's log for why it is read-only, and mount it to be written",
}


def remedy(error: OSError) -> str:
    """What to do about a file there that cannot be written."""
    return _REMEDIES.get(error.errno or 0, "make that folder one it can write to")


def folder(root: Path) -> Path:
    """Where kdumpd keeps what it knows of the system at `root`."""
    return root / "var" / "lib" / "kdumpd"


def replace(path: Path, document: Mapping[str, object]) -> None:
    """The document is at `path`, whole, on the disk and readable by its owner alone; HostError where it cannot be.

    On a full disk it is written over the old one where that takes no more room: what it tells may be that it is full.
    """
    data = (json.dumps(document, sort_keys=True) + "\n").encode()
    temporary = ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name of its own, so that two writers never share one; mkstemp makes it 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _overwritten(path, data):
            raise HostError(f"{path}: cannot be written: {error.strerror}; {remedy(error)}") from error
    finally:
        if temporary:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()


def _overwritten(path: Path, data: bytes) -> bool:
    """Whether the file has these bytes now, in the blocks that it has. A power cut amidst leaves one that makes no
    sense, which counts as none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_blocks * 512 < len(data):
            return False
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
