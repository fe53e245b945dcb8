"""Retention carried out: each dump that goes is renamed to a hidden name in one step, and only then taken apart.

A power cut in the middle leaves nothing half under a dump's name; the next prune takes the rest away. Links are removed
and never followed, and what another file system or another user holds stays. Called by the verb `prune` and by
`dumps.aftermath`. May import the rest of `dumps`, `policy.model`, `target` and `errors`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

from kdumpd.dumps.crashes import Crashes, State
from kdumpd.dumps.folder import Folder, Shelf, identity, opened
from kdumpd.dumps.owner import owns
from kdumpd.dumps.retention import Decision, Held, Removal, Target, decide
from kdumpd.dumps.told import RECORD
from kdumpd.errors import TargetError
from kdumpd.policy.model import Retention
from kdumpd.target.local import safe_name

HIDDEN = ".kdumpd-removed-"
_DEEPEST = 64


class Failed(NamedTuple):
    """A dump that should have gone and did not."""

    path: str
    why: str


class Pruned(NamedTuple):
    """What went, what did not though it should have, and what the policy asks for and cannot have."""

    removed: tuple[Removal, ...]
    failed: tuple[Failed, ...]
    remarks: tuple[str, ...]


def ordered(shelves: Sequence[Shelf], known: Crashes) -> list[Folder]:
    """Every directory, the oldest first: in the order in which they were found, and by time those that were not yet.

    A clock that stood in 1970 when the machine crashed changes nothing for one that was found.
    """

    def rank(folder: Folder) -> tuple[int, float, str]:
        place = known.named(folder.path) if folder.unread else known.place(folder.path, folder.identity)
        number = len(known.crashes) if place is None else place
        return number, folder.told.time or 0.0, folder.name

    return sorted((folder for shelf in shelves for folder in shelf.folders), key=rank)


def plan(shelves: Sequence[Shelf], known: Crashes, retention: Retention, host: str) -> Decision:
    """What goes of this host's dumps on these targets; those of other hosts and programs have no part in it."""
    order = {folder.path: number for number, folder in enumerate(ordered(shelves, known))}
    targets = tuple(
        Target(
            shelf.path,
            shelf.device,
            shelf.free,
            tuple(_held(folder, known, order[folder.path]) for folder in shelf.folders if owns((host,), folder)),
        )
        for shelf in shelves
    )
    return decide(targets, retention)


def _held(folder: Folder, known: Crashes, order: int) -> Held:
    place = known.place(folder.path, folder.identity)
    state = None if place is None else known.crashes[place].state
    whole = state is State.VERIFIED and folder.final
    read = state not in (None, State.UNREAD)
    return Held(folder.path, order, folder.size, verified=whole, told=read)


def carry_out(decision: Decision, shelves: Sequence[Shelf], known: Crashes, host: str) -> tuple[Pruned, Crashes]:
    """All that was decided is done, and what an earlier run of this host left hidden is gone; the record to be written.

    Called with the lock held.
    """
    folders = {found.path: found for shelf in shelves for found in shelf.folders}
    removed, failed = [], []
    for shelf in shelves:
        failed += _leftovers(shelf.path, host)
    for removal in decision.removals:
        try:
            remove(folders[removal.path])
        except TargetError as error:
            failed.append(Failed(removal.path, str(error)))
            continue
        removed.append(removal)
        known = known.without(removal.path, folders[removal.path].identity, removal.reason)
    return Pruned(tuple(removed), tuple(failed), decision.remarks), known


def remove(folder: Folder) -> None:
    """The directory is gone. TargetError where it is not the one that was looked at, or cannot be removed."""
    try:
        with opened(folder.target) as place:
            with opened(folder.name, place, follow=False) as here:
                if _identity(here) != folder.identity:
                    raise TargetError(f"{folder.path}: is not the dump that was looked at any more; it stays")
            hidden = _hidden_name(place, folder.name)
            os.rename(folder.name, hidden, src_dir_fd=place, dst_dir_fd=place)
            os.fsync(place)
            _take_apart(place, hidden)
    except OSError as error:
        raise TargetError(f"{folder.path}: cannot be removed: {error.strerror}") from error


def _identity(here: int) -> str:
    try:
        told = os.stat(RECORD, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        told = None
    return identity(os.fstat(here), told)


def _hidden_name(place: int, name: str) -> str:
    """A name that nothing has: a directory may be renamed over an empty one."""
    for number in range(100):
        hidden = f"{HIDDEN}{name}" if number == 0 else f"{HIDDEN}{name}-{number}"
        try:
            os.stat(hidden, dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:
            return hidden
    raise TargetError(f"{HIDDEN}{name}: a hundred of that name could not be taken apart; look at that directory")


def _leftovers(target: str, host: str) -> list[Failed]:
    """What a run of this host that was cut short had hidden is gone; another host may be at work on its own."""
    own = re.compile(f"{re.escape(HIDDEN + safe_name(host))}-[0-9]{{8}}-[0-9]{{6}}(-[0-9]+)*")
    failed = []
    try:
        with opened(target) as place:
            for name in os.listdir(place):
                if own.fullmatch(name) is None:
                    continue
                status = os.stat(name, dir_fd=place, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()):
                    continue
                try:
                    _take_apart(place, name)
                except OSError as error:
                    path = f"{target}/{name}"
                    failed.append(Failed(path, f"{path}: cannot be removed: {error.strerror}"))
    except OSError as error:
        failed.append(Failed(target, f"{target}: cannot be looked at: {error.strerror}"))
    return failed


def _mount_of(descriptor: int) -> tuple[int, str]:
    """What tells a mount from another: its device, and its number where /proc tells; a bind mount has its own."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii", errors="replace") as stream:
            number = next((line for line in stream if line.startswith("mnt_id:")), "")
    except OSError:
        number = ""
    return os.fstat(descriptor).st_dev, number


def _take_apart(place: int, name: str, depth: int = 0) -> None:
    """A directory with all that is in it is gone; OSError at what is mounted there, be it of the same file system."""
    with opened(name, place, follow=False) as here:
        if _mount_of(here) != _mount_of(place):
            raise OSError(0, f"{name} in it is another file system; unmount it")
        if depth > _DEEPEST:
            raise OSError(0, f"more than {_DEEPEST} directories lie inside each other")
        with os.scandir(here) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry, is_directory in found:
            if is_directory:
                _take_apart(here, entry, depth + 1)
            else:
                os.unlink(entry, dir_fd=here)
    os.rmdir(name, dir_fd=place)
