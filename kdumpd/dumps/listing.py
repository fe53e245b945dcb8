"""The dumps on the local targets as a person asks for them: what each is, in one word, and what is wrong with it.

Called by the verb `list`. May import the rest of `dumps`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from kdumpd.dumps import told
from kdumpd.dumps.crashes import Crashes, State
from kdumpd.dumps.examine import why_none
from kdumpd.dumps.folder import Folder, Shelf, opened
from kdumpd.dumps.owner import owns
from kdumpd.dumps.prune import ordered


class Kind(enum.StrEnum):
    """What a directory holds; `unverified` is a whole dump by its name, which nobody has read since, or what
    cannot be read now."""

    COMPLETE = "complete"
    UNVERIFIED = "unverified"
    INCOMPLETE = "incomplete"
    DAMAGED = "damaged"
    FOREIGN = "foreign"


class Listed(NamedTuple):
    """A line of the list: `time` in seconds since 1970 (None: unknown), `size` in bytes of disk."""

    path: str
    target: str
    state: Kind
    time: float | None
    host: str
    release: str
    panic: str
    why: str
    size: int


_KINDS = {
    State.VERIFIED: Kind.COMPLETE,
    State.UNREAD: Kind.UNVERIFIED,
    State.DAMAGED: Kind.DAMAGED,
    State.INCOMPLETE: Kind.INCOMPLETE,
    State.MISSING: Kind.INCOMPLETE,
}


def listing(shelves: Sequence[Shelf], known: Crashes, host: str) -> list[Listed]:
    """Every dump of every target, the newest first; those of other programs last, by time. `host` is this machine."""
    own: list[Listed] = []
    foreign: list[Listed] = []
    for folder in ordered(shelves, known):
        (foreign if folder.foreign else own).append(_listed(folder, known, host))
    foreign.sort(key=lambda one: (one.time or 0.0, one.path))
    return [*reversed(own), *reversed(foreign)]


def _listed(folder: Folder, known: Crashes, host: str) -> Listed:
    tells = folder.told
    place = None if folder.foreign or folder.unread else known.place(folder.path, folder.identity)
    if place is not None:
        crash = known.crashes[place]
        kind, why, panic = _KINDS[crash.state], crash.why, crash.panic
        if kind in (Kind.COMPLETE, Kind.UNVERIFIED) and not folder.final:
            kind, why = Kind.INCOMPLETE, why_none(folder)
    elif folder.foreign:
        kind, why, panic = Kind.FOREIGN, folder.foreign, ""
    elif folder.unread:
        kind, why, panic = Kind.UNVERIFIED, folder.unread, ""
    elif folder.final:
        mine = "not read since; the service does at its start"
        unread = mine if owns((host,), folder) else f"of another host, {tells.host}, which reads it itself"
        kind, why, panic = Kind.UNVERIFIED, tells.problem or unread, ""
    else:
        kind, why, panic = Kind.INCOMPLETE, why_none(folder), ""
    if not panic and not folder.foreign:
        panic = _panic(folder)
    return Listed(folder.path, folder.target, kind, tells.time, tells.host, tells.release, panic, why, folder.size)


def _panic(folder: Folder) -> str:
    try:
        with opened(folder.path, follow=False) as here:
            return told.panic(here)
    except OSError:
        return ""
