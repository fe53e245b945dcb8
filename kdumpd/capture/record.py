"""What a capture leaves beside its dump: kdumpd.json for programs, capture.log for people.

Both are written before the dump too, with room for what comes later, so that a capture kernel that dies half way has
told how far it came, and a disk that the dump filled can still take the end of the story. Called by `capture.attempt`.
May import `capture.settings`, `capture.step`, `policy.compiled` and `target`.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from kdumpd import __version__
from kdumpd.capture.settings import Settings
from kdumpd.capture.step import Steps
from kdumpd.policy.compiled import to_json
from kdumpd.target.local import utc

ROOM = 128 << 10  # bytes kept for each of the two files
FORMAT = 1  # of kdumpd.json; raised when a key changes its meaning

_FILE_MODE = 0o600
_BOOT = "direct" if os.getpid() == 1 else "dracut"  # the runner's own process imports this module; a child writes


class Crash(NamedTuple):
    """Which kernel crashed, where and when (seconds since 1970); "" and the present time where it cannot be read."""

    host: str
    time: float
    release: str
    machine: str


class Kept(NamedTuple):
    """What a target holds: bytes of dmesg.txt (None: none), the report of the dump (None: none), and why not."""

    directory: str
    target: dict[str, Any]
    dmesg: int | None
    dump: dict[str, Any] | None
    failure: str
    complete: bool


def document(settings: Settings, crash: Crash, kept: Kept, steps: Steps) -> dict[str, Any]:
    """The content of kdumpd.json; times in seconds since the capture kernel started, sizes in bytes."""
    console = steps.console
    dump = dict(kept.dump) if kept.dump is not None else None
    scan = dump.pop("scan") if dump is not None else None
    return {
        "format": FORMAT,
        "kdumpd": __version__,
        "complete": kept.complete,
        "crash": {
            **crash._asdict(),
            "time_utc": utc("%Y-%m-%dT%H:%M:%SZ", crash.time),
        },
        "capture": {
            "release": os.uname().release,
            "boot": _BOOT,
            "processors": len(os.sched_getaffinity(0)),
            "seconds": round(console.clock(), 3),
        },
        "policy": json.loads(to_json(settings.policy)),
        "hands_off": [list(extent) for extent in settings.hands_off],
        "target": kept.target,
        "directory": kept.directory,
        "dmesg": kept.dmesg,
        "scan": scan,
        "dump": dump,
        "failure": kept.failure,
        "memory": {"smallest_available": console.smallest_memory, "stage": console.smallest_stage},
        "timings": [timing._asdict() for timing in steps.timings],
        "incidents": steps.incidents,
        "notes": steps.notes,
    }


def write(directory: str, content: dict[str, Any], lines: list[str], *, keep_room: bool) -> None:
    """Both files are in the directory, and on the disk; with `keep_room` they take at least ROOM bytes."""
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    _write(f"{directory}/kdumpd.json", text.encode(), keep_room)
    _write(f"{directory}/capture.log", "".join(f"{line}\n" for line in lines).encode(), keep_room)


def _write(path: str, data: bytes, keep_room: bool) -> None:
    if keep_room:
        data = data.ljust(ROOM, b"\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
