"""crashes.json: what was found after crashes, newest last; and the lock of everything that touches dumps.

The order of its entries is the order in which crashes were found, which holds whatever a clock said. Called by
`dumps.prune`, `dumps.aftermath` and the verbs; `status` reads the file. May import `errors`.
"""

from __future__ import annotations

import enum
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kdumpd.errors import DumpError, HostError

STATE_FOLDER = "/var/lib/kdumpd"
NAME = "crashes.json"
VERSION = 1
_MOST = 1000  # entries
_MOST_SEEN = 2000  # pstore records
_LARGEST = 4 << 20  # bytes of the file


class State(enum.StrEnum):
    """What became of a crash's dump. `unread`: its bytes are still to be read, or could not be had, and
    are asked for again at the next run."""

    VERIFIED = "verified"
    UNREAD = "unread"
    DAMAGED = "damaged"
    INCOMPLETE = "incomplete"
    MISSING = "missing"


class Crash(NamedTuple):
    """One crash, or one more directory of it. `time` is seconds since 1970, 0 where unknown; `path` its directory.

    `why` is what is wrong, "" for a verified dump. `found` is the boot that found it; `ended` the boot that it ended,
    where the service was still on record as running in it, and `since` when, of a missing one. `removed` is why
    retention took its directory away.
    """

    time: float
    path: str | None
    state: State
    why: str
    panic: str
    host: str = ""
    release: str = ""
    size: int = 0
    pstore: tuple[str, ...] = ()
    identity: str = ""
    found: str = ""
    ended: str = ""
    removed: str = ""
    since: float = 0.0


class Crashes(NamedTuple):
    """The whole file: `boot_id` of the boot that wrote it, `seen` the pstore records that are told already."""

    boot_id: str = ""
    crashes: tuple[Crash, ...] = ()
    seen: tuple[str, ...] = ()

    def place(self, path: str, identity: str) -> int | None:
        """The entry of a directory, by number; None for one that was not found yet.

        One that was renamed on its target since is known by what it is.
        """
        renamed = None
        for number in range(len(self.crashes) - 1, -1, -1):
            crash = self.crashes[number]
            if crash.identity != identity or crash.removed:
                continue
            if crash.path == path:
                return number
            if renamed is None and crash.path and lasting(identity) and _beside(crash.path, path):
                renamed = number
        return renamed

    def named(self, path: str) -> int | None:
        """The last entry of a directory whose identity is not known at this moment."""
        places = range(len(self.crashes) - 1, -1, -1)
        return next(
            (place for place in places if self.crashes[place].path == path and not self.crashes[place].removed), None
        )

    def with_crash(self, crash: Crash) -> Crashes:
        """One more; where they become too many, the oldest without a directory go first."""
        crashes = [*self.crashes, crash]
        if len(crashes) > _MOST:
            gone = next((number for number, old in enumerate(crashes) if old.removed or old.path is None), 0)
            del crashes[gone]
        return self._replace(crashes=tuple(crashes))

    def with_another(self, number: int, crash: Crash) -> Crashes:
        """That entry is this one now."""
        return self._replace(crashes=(*self.crashes[:number], crash, *self.crashes[number + 1 :]))

    def with_seen(self, records: tuple[str, ...]) -> Crashes:
        """These pstore records are told."""
        return self._replace(seen=tuple(dict.fromkeys((*self.seen, *records)))[-_MOST_SEEN:])

    def without_missing(self, boot: str, ends: str) -> tuple[Crashes, str]:
        """Without a crash that this boot took for missing and that left no directory; the boot that it had ended."""
        missed = [crash for crash in self.crashes if crash.state is State.MISSING and crash.found == boot]
        missed = [crash for crash in missed if crash.path is None]
        kept = tuple(crash for crash in self.crashes if crash not in missed)
        return self._replace(crashes=kept), ends or next((crash.ended for crash in missed if crash.ended), "")

    def missed(self, moment: float) -> tuple[Crash, ...]:
        """Those taken for missing, without a directory, whose boot that moment lies in: one boot, one crash."""
        return tuple(
            crash
            for crash in self.crashes
            if crash.state is State.MISSING and crash.path is None and crash.ended and crash.since > 0
            if crash.since <= moment <= crash.time
        )

    def instead(self, old: tuple[Crash, ...], crashes: tuple[Crash, ...]) -> Crashes:
        """These have the place of some that are on record together."""
        place = next((number for number, crash in enumerate(self.crashes) if crash in old), len(self.crashes))
        before, after = self.crashes[:place], self.crashes[place:]
        return self._replace(crashes=(*before, *crashes, *(crash for crash in after if crash not in old)))

    def without(self, path: str, identity: str, reason: str) -> Crashes:
        """The directory is gone, for that reason."""
        number = self.place(path, identity)
        if number is None:
            return self
        return self.with_another(number, self.crashes[number]._replace(path=path, removed=reason))


def lasting(identity: str) -> bool:
    """Whether a directory's identity is its own for good: an inode is given again, and then another record is in it."""
    return identity != "" and not identity.endswith("-0")


def _beside(one: str, other: str) -> bool:
    return os.path.dirname(one) == os.path.dirname(other)


def read(folder: str = STATE_FOLDER) -> Crashes | None:
    """What is on record; None where there is no record yet.

    DumpError for a file that makes no sense, HostError where it cannot be read.
    """
    path = f"{folder}/{NAME}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                raise DumpError(f"{path}: is no file of at most {_LARGEST >> 20} MiB")
            data = os.pread(descriptor, _LARGEST, 0)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(
            f"{path}: {error.strerror}; which dumps were verified is not known: run this as root"
        ) from error
    try:
        return _parsed(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DumpError(f"{path}: is damaged ({type(error).__name__}); every dump is read again") from error


def write(crashes: Crashes, folder: str = STATE_FOLDER) -> None:
    """The record is replaced in one step, and on the disk."""
    document: dict[str, Any] = {
        "version": VERSION,
        "boot_id": crashes.boot_id,
        "crashes": [crash._asdict() for crash in crashes.crashes],
        "pstore_seen": crashes.seen,
    }
    path = f"{folder}/{NAME}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(f"{path}.new", flags, 0o600), "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{path}.new", path)


@contextmanager
def locked(waiting: Callable[[str], None], folder: str = STATE_FOLDER) -> Iterator[None]:
    """Holds the one lock of what changes dumps or their record; `waiting` is told when another holds it."""
    path = f"{folder}/dumps.lock"
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = "run this as root" if isinstance(error, PermissionError) else "make that folder one it can write to"
        raise HostError(f"{error.filename}: {error.strerror}; {remedy}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting("another kdumpd is at work on the dumps; waiting for it to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _parsed(document: Any) -> Crashes:
    if document["version"] != VERSION:
        raise ValueError("another version")
    crashes = tuple(_crash(entry) for entry in document["crashes"][-_MOST:])
    return Crashes(str(document["boot_id"]), crashes, tuple(str(name) for name in document.get("pstore_seen", ())))


def _crash(entry: dict[str, Any]) -> Crash:
    path = entry["path"]
    return Crash(
        time=float(entry["time"]),
        path=None if path is None else str(path),
        state=State(entry["state"]),
        size=int(entry.get("size", 0)),
        since=float(entry.get("since", 0)),
        pstore=tuple(str(name) for name in entry.get("pstore", ())),
        **{
            name: str(entry.get(name, ""))
            for name in ("why", "panic", "host", "release", "identity", "found", "ended", "removed")
        },
    )
