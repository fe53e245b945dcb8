"""What a dump's own files tell about it: kdumpd.json, the stage that a dead capture left, the panic in dmesg.txt.

Nothing in them is believed: sizes are bounded, types are looked at, text is made fit for a terminal. Called by
`dumps.folder` and `dumps.examine`. May import `capture.stage`, `dumpfile` and `errors`.
"""

from __future__ import annotations

import calendar
import errno
import json
import os
import re
import stat
import time
from typing import NamedTuple

from kdumpd.capture import stage
from kdumpd.dumpfile.info import panic_message
from kdumpd.errors import DumpError

RECORD, LOG = "kdumpd.json", "dmesg.txt"
LARGEST_RECORD = 1 << 20  # bytes; the runner keeps 128 KiB of room for it
_LOG_TAIL = 256 << 10  # bytes at the end of a log, in which a panic is looked for
_LONGEST = 256  # characters of a text
_LATEST = 253402300799  # the last second that a calendar of four digits has

#: HOST-YYYYMMDD-HHMMSS, and a number where that was taken (target.local.make_directory).
NAME = re.compile(r"(?P<host>.+)-(?P<time>[0-9]{8}-[0-9]{6})(?:-[0-9]{1,2})?")


class Told(NamedTuple):
    """Who crashed and when (seconds since 1970, None: unknown), and what the capture says that it did.

    `failure` is why there is no dump, "" where nothing is said; `problem` why the file tells nothing.
    """

    host: str
    time: float | None
    release: str
    complete: bool
    failure: str
    problem: str


def printable(text: str) -> str:
    """Text of a file on one line, whatever characters it holds, and not longer than a person reads."""
    cut = text[:_LONGEST]
    return "".join(character if character.isprintable() else "?" for character in cut)


def by_name(name: str) -> tuple[str, float | None]:
    """Host and time as the directory's name has them."""
    match = NAME.fullmatch(name)
    if match is None:
        return "", None
    try:
        moment = float(calendar.timegm(time.strptime(match["time"], "%Y%m%d-%H%M%S")))
    except ValueError:
        return printable(match["host"]), None
    return printable(match["host"]), moment


def record(folder: int, name: str) -> Told:
    """What kdumpd.json in an open directory called `name` tells, and the name where it does not.

    OSError where it is there and cannot be read at this moment.
    """
    host, moment = by_name(name)
    try:
        document = json.loads(read(folder, RECORD, LARGEST_RECORD))
        if not isinstance(document, dict):
            raise DumpError(f"{RECORD} is no JSON object")
    except FileNotFoundError:
        return Told(host, moment, "", complete=False, failure="", problem=f"there is no {RECORD}")
    except DumpError as error:
        return Told(host, moment, "", complete=False, failure="", problem=str(error))
    except (ValueError, RecursionError):
        return Told(host, moment, "", complete=False, failure="", problem=f"{RECORD} is damaged: it is no JSON")
    crash = document.get("crash")
    crash = crash if isinstance(crash, dict) else {}
    return Told(
        _text(crash.get("host")) or host,
        _moment(crash.get("time"), moment),
        _text(crash.get("release")),
        complete=document.get("complete") is True,
        failure=_text(document.get("failure")),
        problem="",
    )


def last_stage(folder: int) -> str:
    """The step in which a capture died, "" where it left no stage file; OSError where that cannot be read now."""
    try:
        line = stage.read(read(folder, stage.NAME, 4096))
    except (FileNotFoundError, DumpError):
        return ""
    if line is None:
        return "unknown: the stage file makes no sense"
    more = f"{line.seconds:.0f} s after the capture kernel's start, {line.memory} MiB of memory left"
    return printable(f"{line.stage}: {line.text} ({more})")


def panic(folder: int) -> str:
    """The panic in the last part of dmesg.txt, "" where it does not tell."""
    try:
        lines = read(folder, LOG, _LOG_TAIL, tail=True).split(b"\n")
    except (OSError, DumpError):
        return ""
    return printable(panic_message(lines) or "")


def read(folder: int, name: str, most: int, *, tail: bool = False) -> bytes:
    """A plain file in an open directory: all of it, or with `tail` its last bytes.

    DumpError for one that is no file, or larger than `most` bytes.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise DumpError(f"{name} is no plain file") from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DumpError(f"{name} is no plain file")
        if found.st_size > most and not tail:
            raise DumpError(f"{name} has {found.st_size} bytes where at most {most} are read")
        return os.pread(descriptor, most, max(0, found.st_size - most))
    finally:
        os.close(descriptor)


def _text(value: object) -> str:
    return printable(value) if isinstance(value, str) else ""


def _moment(value: object, otherwise: float | None) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST:
        return float(value)
    return otherwise
