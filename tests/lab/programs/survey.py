"""The user engine over this /proc/vmcore: counts by kind, and bitmap 2 in /out/bitmap."""

from __future__ import annotations

import os
import time
from typing import Any

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.vmcore.vmcore import Vmcore


class File:
    """Takes bitmap 2."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def write(self, bits: bytes) -> None:
        os.write(self._file, bits)


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """`level` (31): which pages are left out. The counts, the seconds, and what crashed."""
    with Vmcore.open("/proc/vmcore") as core:
        started = time.monotonic()
        counts = user.scan(core, PageKind(arguments.get("level", 31)), (), File("/out/bitmap"))
        return {
            "kept": counts.kept,
            "free": counts.free,
            "total": counts.total,
            "seconds": time.monotonic() - started,
            "processors": os.cpu_count(),
            "crashed": core.uname.release.decode(),
        }
