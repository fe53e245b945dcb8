"""What the loop hears and what it has done: the values on both sides of `service.loop`. Standard library only."""

from __future__ import annotations

import enum
from typing import NamedTuple

from kdumpd.service.look import Look


class Work(enum.Enum):
    """What a child does: one of two verbs, or the search for what a crash has left."""

    STATUS = "status"
    APPLY = "apply"
    AFTERMATH = "aftermath"


class State(NamedTuple):
    """What the service says: armed or not and why, since when (seconds since 1970), what it is doing ("" nothing), and
    what is wrong with the policy where the last good one is in force ("" nothing)."""

    armed: bool
    reason: str
    since: float
    busy: str
    policy_problem: str


class Started(NamedTuple):
    """The service runs."""

    look: Look


class Woken(NamedTuple):
    """The time that the loop asked for has come."""

    look: Look


class Noticed(NamedTuple):
    """Something happened; the words are those of `service.watch`."""

    words: frozenset[str]


class Said(NamedTuple):
    """A child has written a line."""

    work: Work
    line: str


class Ended(NamedTuple):
    """A child has ended: its exit code (negative: the signal), all that it wrote, and what is seen after it."""

    work: Work
    code: int
    output: str
    errors: str
    look: Look


class Asked(NamedTuple):
    """Somebody asked for a look at everything (reload)."""


class Stopped(NamedTuple):
    """Somebody asked for the end."""


Event = Started | Woken | Noticed | Said | Ended | Asked | Stopped


class Start(NamedTuple):
    """Start a child."""

    work: Work


class Kill(NamedTuple):
    """End a child: asked at first, which lets it end what it has started, then `hard`."""

    work: Work
    hard: bool


class Notify(NamedTuple):
    """Tell systemd, in the words of sd_notify(3)."""

    text: str


class Reload(NamedTuple):
    """Watch what there is now, and tell systemd that the reload began and ended."""


class Tell(NamedTuple):
    """One event for the journal."""

    event: str
    reason: str
    fields: tuple[tuple[str, str], ...] = ()


class Publish(NamedTuple):
    """Replace /run/kdumpd/service.json."""

    state: State


class Unit(NamedTuple):
    """kdumpd-armed.service is to be `active`, `failed` or `inactive`."""

    state: str


class Keep(NamedTuple):
    """Replace /var/lib/kdumpd/running.json, by which the next boot knows how this one ended."""

    armed: bool


class Forget(NamedTuple):
    """Remove it, for this is a clean stop; `kept` is whether this boot had written it."""

    kept: bool


Action = Start | Kill | Notify | Reload | Tell | Publish | Unit | Keep | Forget
