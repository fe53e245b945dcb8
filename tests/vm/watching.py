"""What an installed kdumpd says of itself in a VM, asked from outside in each of the ways that people and programs ask.

Called by the tests on whole systems; imports tests.lab.system.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from tests.lab.system import System

#: From a change to its outcome, an image built on the way: an emulated processor takes minutes for one.
ARMING_SECONDS = 900.0
#: Within which unit, journal and service agree with the machine: a minute, and what an emulated processor takes for it;
#: `kdumpd status` alone takes it fifteen seconds.
AGREEING_SECONDS = 180.0
_PAUSE = 3.0
Outcome = TypeVar("Outcome")


class Said(NamedTuple):
    """What the machine says at one moment: the unit's state, the service's verdict, the last such event's fields."""

    unit: str
    armed: bool
    reason: str
    event: str
    event_reason: str

    @property
    def agrees(self) -> bool:
        """Whether all of them say the same."""
        unit = "active" if self.armed else "failed"
        event = "armed" if self.armed else "not-armed"
        return (self.unit, self.event, self.event_reason) == (unit, event, self.reason)


def armed_unit(system: System) -> str:
    """The state of kdumpd-armed.service: active, failed, inactive."""
    return system.run("systemctl is-active kdumpd-armed").out.strip()


def journal(system: System, *events: str, cursor: str = "") -> list[dict[str, str]]:
    """The entries of these events of the present boot, oldest first; behind a cursor if one is given.

    They are picked here: with a match, journalctl of systemd 252 leaves out the first entry that matches behind a
    cursor whose own entry does not.
    """
    after = f"--after-cursor '{cursor}'" if cursor else ""
    out = system.run(f"journalctl --boot --output json {after} | grep KDUMPD_EVENT").out
    entries = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry.get("KDUMPD_EVENT") in events]


def cursor(system: System) -> str:
    """Where the journal ends now."""
    shown = system.must("journalctl --lines 0 --show-cursor")
    return shown.partition("-- cursor: ")[2].strip()


def said(system: System) -> Said:
    """What the machine says now."""
    last = journal(system, "armed", "not-armed")[-1:]
    record = system.run("cat /run/kdumpd/service.json").out
    document: dict[str, Any] = json.loads(record) if record else {}
    return Said(
        unit=armed_unit(system),
        armed=bool(document.get("armed")),
        reason=str(document.get("reason", "")),
        event=last[0]["KDUMPD_EVENT"] if last else "",
        event_reason=last[0]["KDUMPD_REASON"] if last else "",
    )


def wait_until(look: Callable[[], Outcome], within: float, what: str) -> Outcome:
    """The first outcome of `look` that is true; AssertionError when none comes in so many seconds."""
    end = time.monotonic() + within
    while not (outcome := look()):
        assert time.monotonic() < end, f"not within {within:.0f} s: {what}; the last look: {outcome!r}"
        time.sleep(_PAUSE)
    return outcome


def wait_agreed(system: System, armed: bool, reason: str = "", within: float = AGREEING_SECONDS) -> Said:
    """Unit, journal and service all say so, for a reason that matches; AssertionError with what they say instead."""
    end = time.monotonic() + within
    while True:
        now = said(system)
        if now.agrees and now.armed == armed and re.search(reason, now.reason):
            return now
        if time.monotonic() > end:
            log = system.run("journalctl --boot --no-pager --lines 40 --unit kdumpd --unit kdumpd-armed").out
            raise AssertionError(f"not {'armed' if armed else 'not armed'} ({reason}) in {within:.0f} s: {now}\n{log}")
        time.sleep(_PAUSE)


def wait_armed(system: System, within: float = ARMING_SECONDS) -> Said:
    """The machine is armed, as all who are asked say."""
    return wait_agreed(system, armed=True, within=within)
