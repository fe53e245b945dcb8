"""What is asked of the crashed kernel before and beside the dump: who and when, and its log.

Each function opens the vmcore anew, since each runs in a child of its own. Called by `capture.attempt` and
`capture.runner`. May import `vmcore` and `target`.
"""

from __future__ import annotations

import os
import time
from collections import deque

from kdumpd.capture.door import Result
from kdumpd.errors import VmcoreError
from kdumpd.target.local import INCOMPLETE, sync_directory
from kdumpd.vmcore.vmcore import Vmcore

TAIL = 60  # lines of the log that go to the console where no target takes it: a panic with its whole trace
_LONGEST = 200  # bytes of each
_BUFFER = 64 << 10  # bytes written at once
_NO_NAME = b"(none)"  # include/linux/uts.h, UTS_NODENAME: a host that was never given a name


def identify(path: str) -> Result:
    """Host, time, release and machine of the crashed kernel, as `record.Crash` names them."""
    with Vmcore.open(path) as core:
        known = {"time": float(core.crash_time or time.time()), "release": core.info.release, "host": "", "machine": ""}
        try:
            name = core.uname
        except VmcoreError:
            return known
        return known | {
            "host": "" if name.nodename == _NO_NAME else name.nodename.decode("utf-8", "replace"),
            "machine": name.machine.decode("utf-8", "replace"),
        }


def save_log(path: str, directory: str) -> Result:
    """The crashed kernel's log is dmesg.txt in the directory, synced; what could not be read to its end says so."""
    final = f"{directory}/dmesg.txt"
    temporary = final + INCOMPLETE
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with Vmcore.open(path) as core, open(os.open(temporary, flags, 0o600), "wb", buffering=_BUFFER) as stream:
        for line in core.dmesg():
            stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
    os.rename(temporary, final)
    sync_directory(directory)
    return {"bytes": size}


def tail(path: str) -> Result:
    """The last lines of the log."""
    last: deque[str] = deque(maxlen=TAIL)
    with Vmcore.open(path) as core:
        for line in core.dmesg():
            last.append(line[:_LONGEST].decode("utf-8", "replace").rstrip())
    return {"lines": list(last)}
