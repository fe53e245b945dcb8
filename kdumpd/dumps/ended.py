"""How the boot before this one ended, as far as running.json tells: the service writes it, and removes it at a stop.

Called by `dumps.aftermath`. May import the standard library alone.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, NamedTuple

NAME = "running.json"
_LARGEST = 64 << 10
_LATEST = 1e11  # seconds since 1970 that no clock has


class Ended(NamedTuple):
    """A boot that was not shut down: since when the service ran in it, whether it was armed (None: unknown), and under
    which name the machine went ("": unknown)."""

    boot_id: str
    since: float | None
    armed: bool | None
    host: str = ""


def boot_id(proc: str = "/proc") -> str:
    """This boot's name."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="utf-8") as stream:
            return stream.read(64).strip()
    except OSError:
        return ""


def boot_time() -> float:
    """When this kernel started, in seconds since 1970."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def unclean(folder: str, present: str) -> Ended | None:
    """The boot that ended with the service still running; None where the last one was shut down, or is this one."""
    try:
        descriptor = os.open(f"{folder}/{NAME}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            document: Any = json.loads(os.read(descriptor, _LARGEST))
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    boot, since, armed = document.get("boot_id"), document.get("since"), document.get("armed")
    if not isinstance(boot, str) or not boot or boot == present:
        return None
    if isinstance(since, bool) or not isinstance(since, int | float) or not 0 <= since < _LATEST:
        since = None
    host = document.get("host")
    name = host if isinstance(host, str) else ""
    return Ended(boot[:64], since, armed if isinstance(armed, bool) else None, name)
