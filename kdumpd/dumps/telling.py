"""What was found, in words: the events that `dumps.aftermath` prints. Pure.

May import the rest of `dumps` and `policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kdumpd.dumps.crashes import Crash, State
from kdumpd.dumps.ended import Ended
from kdumpd.dumps.examine import what_is_there
from kdumpd.dumps.folder import Folder
from kdumpd.dumps.told import printable
from kdumpd.policy.units import shown_size
from kdumpd.target.local import utc

OLDEST = 946684800.0  # 2000: a clock that is before that was never set


class Event(NamedTuple):
    """One line for the journal: what it is, why in one line, and all of it for a person."""

    event: str
    reason: str
    message: str
    crash: Crash | None = None

    def document(self) -> dict[str, Any]:
        """As it is printed."""
        told: dict[str, Any] = {"event": self.event, "reason": self.reason, "message": self.message}
        crash = self.crash
        if crash is None:
            return told
        told |= {"path": crash.path, "state": crash.state.value, "time": crash.time, "panic": crash.panic}
        return told | {"host": crash.host, "release": crash.release, "size": crash.size, "pstore": list(crash.pstore)}


def when(moment: float | None) -> str:
    """A time for a person, who has to know where it is a guess."""
    if not moment:
        return "at an unknown time"
    unset = " (by a clock that was not set)" if moment < OLDEST else ""
    return f"at {utc('%Y-%m-%d %H:%M:%S UTC', moment)}{unset}"


def of_crash(crash: Crash, folder: Folder, others: Sequence[Crash]) -> Event:
    """A crash that has a directory; `others` are those of the same crash on other targets."""
    moment, panic = when(crash.time), crash.panic or "the panic is not known"
    who = crash.host or "this machine"
    event = "crash-found"
    if crash.state is State.VERIFIED:
        reason = f"{panic}; its dump is whole: {crash.path}"
        message = f"{who} crashed {moment}: {panic}; {crash.path} ({shown_size(crash.size)}) was read whole and is good"
    elif crash.state is State.UNREAD:
        reason = f"{panic}; whether its dump is good is not known yet: {crash.why}"
        message = f"{who} crashed {moment}: {panic}; whether the dump in {crash.path} is good is not known: {crash.why}"
    elif crash.state is State.DAMAGED:
        reason = f"{panic}; its dump is damaged: {crash.path}: {crash.why}"
        message = f"{who} crashed {moment}: {panic}; the dump in {crash.path} is DAMAGED: {crash.why}"
    elif folder.reported:
        reason = f"{panic}; there is no whole dump: {crash.why}"
        message = f"{who} crashed {moment}: {panic}; {crash.path} holds no whole dump: {crash.why}"
    else:
        event = "crash-without-dump"
        stage = folder.stage or "unknown"
        reason = f"crashed {moment}, the capture kernel did not report; last stage {stage}"
        message = f"{who} {reason}; {panic}; {crash.path}: {what_is_there(folder)}"
    also = "".join(f"; {other.path}: {other.why or other.state.value}" for other in others)
    return Event(event, reason, f"{message}{_records(crash)}{also}", crash)


def missing_reason(before: Ended | None, moment: float, *, panicked: bool, timed: bool) -> str:
    """Why a boot of which no target holds anything is taken for a crash, and how sure that is."""
    if panicked:
        at = when(moment) if timed else f"at some time before {when(moment).removeprefix('at ')}"
        return f"crashed {at}, the capture kernel did not report; last stage unknown: it left none on any target"
    since = f", watched since {when(before.since).removeprefix('at ')}," if before and before.since else ""
    return (
        f"the boot before{since} ended before {when(moment).removeprefix('at ')} without a shutdown and nothing else "
        "tells of it: a crash of which the capture kernel did not report, a reset and a power cut look the same"
    )


def missing_more(before: Ended | None, unseen: Sequence[str], unread: Sequence[str]) -> str:
    """What else is known of it; `unseen` targets and `unread` directories may hold it."""
    armed = ""
    if before is not None and before.armed is not None:
        armed = "; a crash kernel was loaded" if before.armed else "; no crash kernel was loaded then"
    armed += f"; not there to be looked at: {', '.join(unseen)}" if unseen else ""
    return armed + (f"; there, and cannot be read now: {', '.join(map(printable, unread))}" if unread else "")


def of_missing(crash: Crash, reason: str) -> Event:
    """A crash without a dump, of which no target has a directory by the runner."""
    panic = f"; {crash.panic}" if crash.panic else ""
    return Event("crash-without-dump", reason, f"{crash.why}{panic}{_records(crash)}", crash)


def _records(crash: Crash) -> str:
    if not crash.pstore:
        return ""
    place = f"in {crash.path}/pstore" if crash.path is not None else f"at {', '.join(crash.pstore[:3])}"
    return f"; pstore records: {len(crash.pstore)} {place}"
