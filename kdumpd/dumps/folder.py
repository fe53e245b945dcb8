"""The dump directories on a target: whose they are, what is in them, how much they take. Nothing is read whole.

A target's directory may be open to everybody (Ubuntu's /var/crash is): what root did not make, or others may write in,
is not ours, is never trusted and never removed. A process apart finds out a target whose disk does not answer, and
nothing else touches it. Called by `dumps.prune`, `dumps.aftermath` and the verbs. May import `dumps.told`,
`prove.apart`, `target` and `errors`.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from kdumpd.dumps import told
from kdumpd.dumps.told import Told
from kdumpd.errors import TargetError
from kdumpd.prove import apart
from kdumpd.target.local import INCOMPLETE, free_bytes

DUMP = "vmcore"
_OWN_FILES = frozenset(("capture.log", "dmesg.txt", "kdumpd.json", "stage.txt", "vmcore", "pstore"))
_DEEPEST = 4  # directories below a dump's own that are counted
_MOST_ENTRIES = 10_000
_BLOCK = 512  # bytes: the unit of st_blocks
_DEADLINE = apart.DEADLINE  # seconds until a target is given up

#: Directories of other programs: kdump-tools, kdump-utils, SUSE's kdump, in that order.
_PEERS = (
    ("kdump-tools", re.compile(r"[0-9]{12}")),
    ("kdump-utils", re.compile(r"[0-9A-Za-z.:_-]+-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}:[0-9]{2}:[0-9]{2}")),
    ("SUSE's kdump", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}:[0-9]{2}(?::[0-9]{2})?")),
)


class Folder(NamedTuple):
    """A directory on a target. `identity` tells it from another one that had the same name; `size` is bytes of disk.

    `foreign` is whose it is, or why it is not trusted; "" for ours. `unread` is why nothing of one with a dump's name
    could be read at this moment, so that whose it is is not known; `identity` is "" then. `final` is whether a file has
    the dump's final name, which its capture gives to a whole one; `partial` bytes of one that has not; `stage` the last
    step of a capture that told no more.
    """

    path: str
    target: str
    name: str
    identity: str
    size: int
    foreign: str
    told: Told
    final: bool
    partial: int
    log: bool
    stage: str
    unread: str = ""

    @property
    def reported(self) -> bool:
        """Whether its capture came to its end, or as far as a whole dump: that alone has the final name."""
        return self.final or self.told.complete or bool(self.told.failure)


class Shelf(NamedTuple):
    """A target as it is: its directories by name, free bytes of its file system, and which one that is."""

    path: str
    device: int
    free: int
    folders: tuple[Folder, ...]


def shelf(target: str) -> Shelf | None:
    """The dumps on a target; None where the directory is not there (yet). TargetError where it cannot be looked at."""
    try:
        with opened(target) as place:
            status = os.fstat(place)
            names = sorted(entry.name for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))
            folders = [folder for name in names if (folder := _folder(place, target, name)) is not None]
            return Shelf(target, status.st_dev, free_bytes(target), tuple(folders))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(target) and not os.path.isdir(target):
            raise TargetError(f"{target}: is no directory; name another one in the policy") from None
        return None
    except OSError as error:
        remedy = "run this as root" if isinstance(error, PermissionError) else "look at that file system"
        raise TargetError(f"{target}: cannot be looked at: {error.strerror}; {remedy}") from error


def shelves(targets: Sequence[str]) -> tuple[tuple[Shelf, ...], tuple[str, ...]]:
    """Every target's, each directory once though two paths lead there; and a line for each that cannot be looked at."""
    there, silent = answering(targets)
    found, problems = opened_shelves(there)
    return found, (*silent, *problems)


def answering(targets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The targets whose disk answers, be there a directory or none; and a line for each that does not.

    They are asked all at once. To look at another one would hang for as long as its disk does.
    """
    questions = [f"entries: {target}" for target in targets]
    answers = apart.together([partial(_asked, target) for target in targets], _DEADLINE, questions)
    asked = tuple(zip(targets, answers, strict=True))
    silent = tuple(f"{target}: {answer.failure}" for target, answer in asked if answer.failure)
    return tuple(target for target, answer in asked if not answer.failure), silent


def _asked(target: str) -> Mapping[str, Any]:
    """In a process apart: nothing of interest, but an end. What is wrong there is told by who looks at it then."""
    with suppress(OSError):
        os.stat(target)
        free_bytes(target)
        with os.scandir(target) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
    return {}


def opened_shelves(targets: Sequence[str]) -> tuple[tuple[Shelf, ...], tuple[str, ...]]:
    """As `shelves`, of targets that answer."""
    found: list[Shelf] = []
    problems: list[str] = []
    seen: set[tuple[int, int]] = set()
    for target in targets:
        try:
            status = os.stat(target)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        except OSError:
            pass  # what is not there, or cannot be looked at, is told below
        try:
            one = shelf(target)
        except TargetError as error:
            problems.append(str(error))
            continue
        if one is not None:
            found.append(one)
    return tuple(found), tuple(problems)


@contextmanager
def opened(path: str, place: int | None = None, *, follow: bool = True) -> Iterator[int]:
    """The directory as a descriptor."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def identity(status: os.stat_result, record: os.stat_result | None) -> str:
    """What tells a directory from any other of the same name: its inode, and when its record was written last."""
    moment = record.st_mtime_ns if record is not None else 0
    return f"{status.st_ino}-{moment}"


def _folder(place: int, target: str, name: str) -> Folder | None:
    """A directory of the target; None for one that is no dump's."""
    if name.startswith("."):
        return None
    path = f"{target.rstrip('/')}/{name}"
    peer = next((who for who, pattern in _PEERS if pattern.fullmatch(name)), "")
    if not peer and told.NAME.fullmatch(name) is None:
        return None
    try:
        with opened(name, place, follow=False) as here:
            status, entries = os.fstat(here), {entry.name: entry for entry in os.scandir(here)}
            foreign = peer or _distrust(status) or _strange(entries.keys())
            tells = _outside(status, name) if foreign else told.record(here, name)
            partial = _status(here, DUMP + INCOMPLETE)
            final = _status(here, DUMP)
            return Folder(
                path,
                target,
                name,
                identity(status, _status(here, told.RECORD)),
                _size(here),
                foreign,
                tells,
                final=final is not None and stat.S_ISREG(final.st_mode),
                partial=partial.st_size if partial is not None else 0,
                log=told.LOG in entries,
                stage="" if foreign else told.last_stage(here),
            )
    except FileNotFoundError:
        return None  # removed just now
    except OSError as error:
        foreign = peer or _distrust_now(place, name)
        host, moment = told.by_name(name)
        problem = f"cannot be read: {error.strerror}"
        tells = Told(host, moment, "", complete=False, failure="", problem=problem)
        nothing = Folder(path, target, name, "", 0, foreign, tells, final=False, partial=0, log=False, stage="")
        return nothing if foreign else nothing._replace(unread=problem)


def _distrust(status: os.stat_result) -> str:
    """Why a directory with a name like ours is not taken for ours; "" when it is."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    return "others may write in it" if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _distrust_now(place: int, name: str) -> str:
    """The same of a directory that cannot be read, as far as its own inode tells."""
    try:
        return _distrust(os.stat(name, dir_fd=place, follow_symlinks=False))
    except OSError:
        return ""


def _strange(names: Iterable[str]) -> str:
    """Why a directory is not taken for one of ours, without a record, whose capture died early; "" when it is."""
    found = set(names)
    if told.RECORD in found or all(name.removesuffix(INCOMPLETE) in _OWN_FILES for name in found):
        return ""
    return f"has no {told.RECORD}"


def _outside(status: os.stat_result, name: str) -> Told:
    """What is known of a directory that is not ours, without a look at what it says."""
    host, moment = told.by_name(name)
    moment = status.st_mtime if moment is None else moment
    return Told(host, moment, "", complete=False, failure="", problem="")


def _status(folder: int, name: str) -> os.stat_result | None:
    """None where there is none; a disk that does not answer now says nothing of that."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _size(folder: int) -> int:
    """Bytes of disk that a directory takes with all that is in it, as far down as a dump's goes."""
    total, left = os.fstat(folder).st_blocks * _BLOCK, _MOST_ENTRIES

    def add(place: int, depth: int) -> None:
        nonlocal total, left
        with os.scandir(place) as entries:
            found = list(itertools.islice(entries, left))
        left -= len(found)
        for entry in found:
            try:
                status = entry.stat(follow_symlinks=False)
                total += status.st_blocks * _BLOCK
                if stat.S_ISDIR(status.st_mode) and depth < _DEEPEST:
                    with opened(entry.name, place, follow=False) as below:
                        add(below, depth + 1)
            except OSError:
                continue

    add(folder, 0)
    return total
