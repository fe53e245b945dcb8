"""The service's mind: what happened, and when, to what is to be done. Pure; no clock, no file, no process.

`daemon` calls `step` with every event and carries out the actions in order; it sleeps until `wake`. Times are seconds
of one clock that never goes back, but for `State.since`, which counts from 1970 (`Loop.clock` is the difference).

    a look that differs ─► apply, which does nothing where nothing is to be done ─► status, which alone gives a verdict

May import `service.actions`, `service.look` and `service.verdict`.
"""

from __future__ import annotations

import math

from kdumpd.service.actions import (
    Action,
    Asked,
    Ended,
    Event,
    Forget,
    Keep,
    Kill,
    Noticed,
    Notify,
    Publish,
    Reload,
    Said,
    Start,
    Started,
    State,
    Stopped,
    Tell,
    Unit,
    Woken,
    Work,
)
from kdumpd.service.look import Look, changed
from kdumpd.service.verdict import Verdict, complaint, found, read, said, targets

POLL = 60.0  # seconds from one wake-up without an event to the next
QUIET, PATIENCE = 1.0, 5.0  # a look is taken so long after the last event, and after the first at the latest
FULL = 3600.0  # everything is proved at least so often: the image is read and targets are written to
APART = 30.0  # between two attempts that only disks and mounts called for: containers come and go
GRACE = 30.0  # how long what was armed is called armed while what is stale is made anew
KILLED = 10.0  # from asking a child to end to killing it
LONGEST_BACK_OFF = 600.0
#: Reading a dump may take hours: a deadline that ended it would have it read again from its start, for ever.
DEADLINES = {Work.STATUS: 300.0, Work.APPLY: 1800.0, Work.AFTERMATH: 24 * 3600.0}

#: Words of `service.watch` about what no look shows.
_UNSEEN = frozenset({"device", "loader", "everything"})
#: Fields of a look that are about the targets, and change often for other reasons.
_TARGETS = frozenset({"disks", "mounts", "room"})
BECAUSE = "    because "  # how plan/render.py begins the line of a reason


def back_off(failures: int) -> float:
    """Seconds until the next try: 1, 2, 4, 8 and then 10 minutes."""
    return min(60.0 * float(1 << min(failures - 1, 8)), LONGEST_BACK_OFF)


def _gone(look: Look) -> str:
    who = "`kdumpd disarm`" if look.disarmed else "another program"
    return f"{who} unloaded the crash kernel"


class Loop:
    """What the service knows between two events."""

    def __init__(self, image: str, clock: float = 0.0) -> None:
        """`image` is the path of the running kernel's image, as apply prints it."""
        self._image = image
        self.clock = clock
        self._now = -math.inf
        # When a look is due: by the poll, by events; and what the events were.
        self._minute = -math.inf
        self._due = math.inf
        self._first_event = math.inf
        self._noticed: frozenset[str] = frozenset()
        self._asked = False
        # What the verdict rests on, when it was given, and when to try again to be armed.
        self._seen: Look | None = None
        self._verdict = Verdict(False, "", "")
        self._checked = -math.inf
        self._failures = 0
        self._retry = math.inf
        # The one child that works on being armed, what was seen before it, and what it said.
        self._work: Work | None = None
        self._before: Look | None = None
        self._step = ""
        self._building = ""
        self._loading = False
        self._complaint = ""
        self._told = ""
        self._failed: tuple[str, ...] = ()
        # When the attempt began whose outcome is not known yet.
        self._attempt: float | None = None
        self._deadlines: dict[Work, float] = {}
        self._killed: set[Work] = set()
        self._published: State | None = None
        self._unit = ""
        # The search after a crash: to be begun, at work (False), done (True); when to begin it again after a failure.
        self._aftermath: bool | None = None
        self._searches, self._search_due, self._search_failed = 0, -math.inf, ""
        # The host's name when it was begun, and when this boot was written last; None before either.
        self._searched_as: str | None = None
        self._kept_as: str | None = None

    @property
    def wake(self) -> float:
        """When the next look is due, whatever happens."""
        times = [self._minute, self._due, *self._deadlines.values()]
        if self._held():
            times.append((self._attempt or 0.0) + GRACE)
        return min(times)

    def step(self, event: Event, now: float) -> list[Action]:
        """What this event calls for, in order."""
        self._now = now
        out: list[Action] = []
        match event:
            case Started(look):
                out.append(Notify("READY=1"))
                self._look(look, out)
            case Woken(look):
                out.append(Notify("WATCHDOG=1"))
                self._overdue(out)
                self._look(look, out)
            case Noticed(words):
                self._noticed |= words
                self._first_event = min(self._first_event, now)
                self._due = min(now + QUIET, self._first_event + PATIENCE)
            case Asked():
                self._asked, self._due = True, now
                out.append(Reload())
            case Said(work, line):
                self._said(work, line, out)
            case Ended():
                self._ended(event, out)
            case Stopped():
                out += [Notify("STOPPING=1"), *(Kill(work, hard=False) for work in self._deadlines)]
                out.append(Forget(kept=self._kept_as is not None))
        return out

    def _overdue(self, out: list[Action]) -> None:
        for work, deadline in [*self._deadlines.items()]:
            if self._now >= deadline:
                hard = work in self._killed
                out.append(Kill(work, hard))
                self._killed.add(work)
                # What waits for a disk that does not answer no signal ends: it is not woken for more often than else.
                self._deadlines[work] = self._now + (POLL if hard else KILLED)

    def _look(self, look: Look, out: list[Action]) -> None:
        """A look was taken: what it shows is published, and what it calls for is started."""
        self._minute, self._due, self._first_event = self._now + POLL, math.inf, math.inf
        self._publish(look, out)
        work = self._next(look) if self._work is None else None
        if work:
            self._start(work, look, out)
            self._publish(look, out)
        if self._kept_as not in (None, look.hostname):
            self._keep(look, out)
        self._search(look, out)

    def _next(self, look: Look) -> Work | None:
        """What is to be done about this look, when nothing is at work.

        Apply does nothing where nothing is to be done, but to prove the targets; under a policy that is not valid it
        keeps the last good one loaded.
        """
        # Who disarmed by hand wants it so; without a reservation there is nothing to load into.
        attempt = Work.APPLY if look.reservation and not look.disarmed else Work.STATUS
        changes = frozenset(changed(self._seen, look)) if self._seen else frozenset({"policy"})
        if self._asked or changes - _TARGETS:
            self._asked, self._failures, self._search_due = False, 0, -math.inf
            return attempt
        if (changes or self._noticed & _UNSEEN) and self._now < self._checked + APART:
            self._due = self._checked + APART
            return None
        if changes or self._now >= self._checked + FULL:
            return attempt
        if self._noticed & _UNSEEN:
            return Work.STATUS
        return attempt if attempt is Work.APPLY and self._now >= self._retry else None

    def _start(self, work: Work, look: Look, out: list[Action]) -> None:
        self._work, self._before = work, look
        self._deadlines[work] = self._now + DEADLINES[work]
        self._noticed = frozenset()
        if work is Work.APPLY:
            self._attempt, self._retry = self._now, math.inf
            self._step = "applying the policy"
            self._complaint, self._building, self._loading = "", "", False
        out.append(Start(work))

    def _said(self, work: Work, line: str, out: list[Action]) -> None:
        """A child's line is told; those of apply (plan/render.py, plan/carry.py) also say how far it is."""
        if work is Work.AFTERMATH:
            told = found(line)
            out += [told] if told else []
        elif work is Work.APPLY:
            kind, _, rest = line.partition(" ")
            if kind in ("build", "load"):
                self._building = rest.partition(" ")[0] if kind == "build" else ""
                self._loading |= kind == "load"
            elif self._building and line.startswith(BECAUSE):
                self._builds(line.removeprefix(BECAUSE), out)
            elif kind in ("built", "loaded"):
                self._step = "applying the policy"
                self._loading &= kind != "loaded"
                out.append(Tell(kind, rest))

    def _builds(self, reason: str, out: list[Action]) -> None:
        """An image is stale. That of a kernel that does not run yet takes nothing from being armed."""
        self._step = "building the image"
        out.append(Tell("building", reason))
        if self._building == self._image:
            self._verdict = Verdict(False, f"the image is being built: {reason}", self._verdict.policy_problem)
        self._building = ""
        if self._before:
            self._publish(self._before, out)

    def _ended(self, event: Ended, out: list[Action]) -> None:
        work, late = event.work, event.work in self._killed
        self._deadlines.pop(work, None)
        self._killed.discard(work)
        if work is Work.AFTERMATH:
            self._searched(complaint(event, late) if event.code else "", event.look, out)
            return
        self._work = None
        if work is Work.STATUS:
            self._judge(event, late, out)
            # What that publishes first is news, however soon it will be put right.
            self._look(event.look, out)
            return
        if event.code:
            self._complaint = complaint(event, late)
        failed = targets(event)
        out += [Tell("target-failed", target) for target in failed if target not in self._failed]
        self._failed = failed
        # What an attempt came to, status alone tells.
        self._start(Work.STATUS, event.look, out)
        self._publish(event.look, out)

    def _search(self, look: Look, out: list[Action]) -> None:
        """What the boot before left is looked for when something was published, and again after a failure: at a look,
        so that no wake-up is needed for it.

        A host may get its name after the service has started. Only under that are its dumps its own: looked again.
        """
        if self._aftermath is not False and look.hostname != self._searched_as:
            self._aftermath, self._search_due = None, -math.inf
        if self._published and self._aftermath is None and self._now >= self._search_due:
            self._aftermath, self._searched_as = False, look.hostname
            self._deadlines[Work.AFTERMATH] = self._now + DEADLINES[Work.AFTERMATH]
            out.append(Start(Work.AFTERMATH))

    def _searched(self, failed: str, look: Look, out: list[Action]) -> None:
        """Only now may this boot's record take the place of the one that tells how the boot before ended."""
        if not failed:
            self._aftermath = True
            self._searches, self._search_failed = 0, ""
            if look.hostname == self._searched_as:
                self._keep(look, out)
            self._search(look, out)
            return
        self._aftermath = None
        self._searches += 1
        self._search_due = self._now + back_off(self._searches)
        if failed != self._search_failed:
            out.append(Tell("aftermath-failed", failed))
        self._search_failed = failed

    def _keep(self, look: Look, out: list[Action]) -> None:
        """This boot is on record as one that was not shut down yet, with the name that its dump will have."""
        if self._published:
            self._kept_as = look.hostname
            out.append(Keep(self._published.armed))

    def _judge(self, event: Ended, late: bool, out: list[Action]) -> None:
        """The verdict of a status stands, and the next attempt is set where there has to be one."""
        before, self._verdict = self._verdict, read(event, late)
        self._seen, self._checked = self._before, self._now
        attempted, self._attempt = self._attempt is not None, None
        problem = self._verdict.policy_problem
        if problem != before.policy_problem:
            out.append(
                Tell("policy-invalid", problem) if problem else Tell("policy-valid", "the policy is valid again")
            )
        self._retry = math.inf
        if self._verdict.armed:
            self._failures, self._told = 0, ""
        elif not attempted:
            self._retry = self._now
        else:
            self._failures += 1
            self._retry = self._now + back_off(self._failures)
            self._explain(out)

    def _explain(self, out: list[Action]) -> None:
        """Why apply could not do it is part of the reason, and told once."""
        why = "" if self._verdict.policy_problem else self._complaint
        if why and why not in self._verdict.reason:
            self._verdict = self._verdict._replace(reason=f"{self._verdict.reason}; apply failed: {why}")
        if why and why != self._told:
            out.append(Tell("apply-failed", why))
        self._told = why

    def _held(self) -> bool:
        """Whether what is said waits for the outcome of an attempt: a moment's staleness alarms nobody."""
        return self._attempt is not None and self._now < self._attempt + GRACE

    def _publish(self, look: Look, out: list[Action]) -> None:
        """What has changed is told: to systemd, in the record, in the journal, by the unit."""
        # A load begins with an unload.
        reloads = self._work is Work.APPLY and (self._loading or self._held())
        if self._verdict.armed and not look.loaded and not reloads:
            self._verdict = self._verdict._replace(armed=False, reason=_gone(look))
        old, (armed, reason, problem) = self._published, self._verdict
        busy = self._step if self._work is Work.APPLY else ""
        if old is None and (not reason or (not armed and self._held())):
            out.append(Notify(f"STATUS=not known yet: {busy or 'looking'}"))
            return
        if old and old.armed and not armed and look.loaded and self._held():
            armed, reason = old.armed, old.reason
        since = old.since if old and old.armed == armed else self._now + self.clock
        state = State(armed, reason, since, busy, problem)
        if state == old:
            return
        self._published = state
        out += [Publish(state), Notify(f"STATUS={said(state)}")]
        if old is None or (armed, reason) != (old.armed, old.reason):
            out.append(Tell("armed" if armed else "not-armed", reason))
        unit = "active" if armed else "failed" if look.reservation else "inactive"
        if unit != self._unit:
            self._unit = unit
            out.append(Unit(unit))
        if self._kept_as is not None and (old is None or old.armed != armed):
            self._keep(look, out)
        self._search(look, out)
