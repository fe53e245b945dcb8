"""`python3 -m kdumpd.dumps.aftermath`: what the boot before left behind is found, read whole, recorded and told.

The service runs it as a child at its start, before it writes its own running.json, and sends each line that it prints
(a JSON object with `event`, `reason` and `message`) to the journal. It can be run again at any time: what was told is
on record and not told again. A target whose disk does not answer is told, and not touched. May import the rest of
`dumps`, `policy`, `target` and `errors`.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from kdumpd.dumps import crashes as record
from kdumpd.dumps import ended, prune, pstore, telling
from kdumpd.dumps.crashes import Crash, Crashes, State
from kdumpd.dumps.ended import Ended
from kdumpd.dumps.evidence import keep
from kdumpd.dumps.examine import at_sight, examine
from kdumpd.dumps.folder import Folder, Shelf, answering, opened_shelves
from kdumpd.dumps.owner import owns, this_host
from kdumpd.dumps.telling import OLDEST, Event
from kdumpd.errors import DumpError, KdumpdError, PolicyError
from kdumpd.policy.compiled import from_json
from kdumpd.policy.load import load
from kdumpd.policy.model import Policy
from kdumpd.policy.units import shown_size

Emit = Callable[[Event], None]

_NICE = 10  # a machine that comes up has better things to do than to read a dump
_SLACK = 3600.0  # seconds by which a crash may seem to lie before the service's start, where a clock was set meanwhile
_LARGE = 1 << 30  # bytes of a dump that takes long to read: its crash is told before
_RANK = {state: -number for number, state in enumerate(State)}  # the best first there


class Places(NamedTuple):
    """Where the machine keeps what is read here; other folders in tests."""

    state: str = record.STATE_FOLDER
    proc: str = "/proc"
    pstore: tuple[str, ...] = pstore.PLACES


class _Noted(NamedTuple):
    """A crash that is on record, with a dump that is still to be read: its directories, what is on record of them."""

    group: tuple[Folder, ...]
    crashes: tuple[Crash, ...]
    firmware: tuple[pstore.Record, ...]


class Aftermath:
    """One run, with the lock held."""

    def __init__(self, policy: Policy, places: Places, emit: Emit) -> None:
        self._policy = policy
        self._targets = tuple(target.path for target in policy.targets)
        self._there: tuple[str, ...] = ()  # the targets that answer: to touch another one would hang
        self._places = places
        self._emit = emit
        self._unrecorded = ""  # why the last record was not written
        self._told: list[str] = []
        self._boot = ended.boot_id(places.proc)
        self._host = this_host(places.proc)

    def run(self, *, retain: bool) -> str:
        """Everything new is on record and told; with `retain`, what the policy does not keep is gone.

        The answer is why it is not on record, "" where it is.
        """
        known, first = self._known()
        self._there, silent = answering(self._targets)
        found, problems = opened_shelves(self._there)
        for problem in (*silent, *problems):
            self._emit(Event("target-failed", problem, f"dumps there cannot be looked at: {problem}"))
        before = ended.unclean(self._places.state, self._boot)
        unread = [one.path for shelf in found for one in shelf.folders if one.unread and known.named(one.path) is None]
        # What other machines keep on a target that they share with this one is theirs to tell and to take away.
        hosts = (self._host, before.host if before is not None else "")
        found = tuple(one._replace(folders=tuple(each for each in one.folders if owns(hosts, each))) for one in found)
        firmware = tuple(one for one in pstore.records(self._places.pstore) if one.key not in known.seen)
        if before is not None and any(crash.ended == before.boot_id for crash in known.crashes):
            before = None  # told already
        known = renamed(found, known)
        left = unread_before(found, known)
        if first:
            known = known.with_seen(tuple(one.key for one in firmware))
        noted: list[_Noted] = []
        groups = new_crashes(found, known)
        late = surely(groups, known, before)
        newest = len(groups) - 1
        fits = bool(groups) and (before is None or (newest not in late and _fits(groups[-1], before)))
        for number, group in enumerate(groups):
            its_end = fits and number == newest
            its = tuple(one for one in firmware if its_end and (not first or _near(one, group)))
            ends = before.boot_id if before and its_end else ""
            if not late:
                # What was taken for missing earlier in this boot, because its target was not there yet, is found now.
                known, ends = known.without_missing(self._boot, ends)
            known, dump = self._note(group, known, its, ends, late.get(number))
            noted += dump
        # The first run of all cannot know how old a record is.
        panicked = tuple(one for one in firmware if one.of_a_panic and not first and not fits)
        if panicked or (before is not None and not fits):
            known = self._miss(known, panicked, before, found, unread)
        known = known.with_seen(tuple(one.key for one in firmware))
        self._keep(known)
        # Only now what may take hours.
        for one in noted:
            known = self._take(one, known)
        known = self._again(left, known)
        self._keep(known)
        if retain:
            self._retain(known)
        return self._unrecorded

    def _known(self) -> tuple[Crashes, bool]:
        """The record, and whether there was none."""
        found: Crashes | None
        try:
            found = record.read(self._places.state)
        except DumpError as error:
            self._emit(Event("record-damaged", str(error), str(error)))
            found = Crashes()
        return (found or Crashes())._replace(boot_id=self._boot), found is None

    def _keep(self, known: Crashes) -> None:
        """It is on record; where the disk takes no record, that is told once, and all else goes on."""
        try:
            record.write(known, self._places.state)
            self._unrecorded = ""
        except OSError as error:
            text = f"{self._places.state}/{record.NAME}: cannot be written: {error.strerror}; make room there"
            self._unrecorded = text
            if text not in self._told:
                self._told.append(text)
                self._emit(Event("record-failed", text, f"{text}: what is told now is told again by the next search"))

    def _again(self, left: Sequence[Folder], known: Crashes) -> Crashes:
        """What was not read by an earlier run is read; what came of it is on record, and told where it is news."""
        for folder in left:
            number = known.place(folder.path, folder.identity)
            if number is None:
                continue
            old, now = known.crashes[number], examine(folder)
            now = now._replace(panic=now.panic or old.panic, pstore=old.pstore, found=old.found, ended=old.ended)
            known = known.with_another(number, now)
            # One that was cut short has not told why.
            if now.state is not State.UNREAD or now.why != old.why:
                self._emit(telling.of_crash(now, folder, ()))
            self._keep(known)
        return known

    def _note(
        self,
        group: Sequence[Folder],
        known: Crashes,
        firmware: tuple[pstore.Record, ...],
        ends: str,
        missing: Crash | None,
    ) -> tuple[Crashes, list[_Noted]]:
        """One crash is on record at sight, with the firmware's records; told if its dump takes long, or is none."""
        judged = sorted((at_sight(folder) for folder in group), key=lambda crash: _RANK[crash.state])
        judged[-1] = judged[-1]._replace(ended=missing.ended if missing else ends)
        judged[-1] = judged[-1]._replace(pstore=self._copied(firmware, judged[-1]))
        crashes = self._named(judged, firmware)
        best = crashes[-1]
        known = known.instead((missing,), crashes) if missing is not None else known
        for crash in crashes if missing is None else ():
            known = known.with_crash(crash)
        known = known.with_seen(tuple(one.key for one in firmware))
        unread = any(folder.final for folder in group)
        # Should this end in between, it is told twice and not never.
        if not unread or best.size >= _LARGE:
            self._tell(crashes, group)
        self._keep(known)
        return known, [_Noted(tuple(group), crashes, firmware)] if unread else []

    def _take(self, noted: _Noted, known: Crashes) -> Crashes:
        """Each of its directories is examined, what came of it is on record, the best last, and told."""
        judged = sorted((examine(folder) for folder in noted.group), key=lambda crash: _RANK[crash.state])
        best, before = judged[-1], noted.crashes[-1]
        copies = before.pstore if best.path == before.path else self._copied(noted.firmware, best)
        judged[-1] = best._replace(ended=before.ended, pstore=copies)
        crashes = self._named(judged, noted.firmware)
        known = known.instead(noted.crashes, crashes)
        self._tell(crashes, noted.group)
        self._keep(known)
        return known

    def _copied(self, firmware: tuple[pstore.Record, ...], crash: Crash) -> tuple[str, ...]:
        """The firmware's records beside the dump, as far as its target takes them."""
        try:
            return pstore.copy(firmware, crash.path or "")
        except OSError as error:
            text = f"{crash.path}: {error.strerror}"
            self._emit(Event("target-failed", text, f"pstore records cannot be copied beside the dump: {text}"))
            return ()

    def _named(self, crashes: Sequence[Crash], firmware: tuple[pstore.Record, ...]) -> tuple[Crash, ...]:
        """With the panic, which one of them knows, the best first, or the firmware."""
        panics = [crash.panic for crash in reversed(crashes) if crash.panic]
        panic = panics[0] if panics else pstore.panic_of(firmware)
        return tuple(crash._replace(found=self._boot, panic=panic) for crash in crashes)

    def _tell(self, crashes: Sequence[Crash], group: Sequence[Folder]) -> None:
        folder = next(folder for folder in group if folder.path == crashes[-1].path)
        self._emit(telling.of_crash(crashes[-1], folder, crashes[:-1]))

    def _miss(
        self,
        known: Crashes,
        firmware: tuple[pstore.Record, ...],
        before: Ended | None,
        found: Sequence[Shelf],
        unread: Sequence[str],
    ) -> Crashes:
        """A boot that ended by itself, and no target holds anything of it: that is on record and told."""
        times = [one.time for one in firmware if one.time]
        moment = max(times) if times else ended.boot_time()
        unseen = [path for path in self._targets if path not in self._there or not os.path.isdir(path)]
        reason = telling.missing_reason(before, moment, panicked=bool(firmware), timed=bool(times))
        kept = keep(firmware, [shelf.path for shelf in found], self._host, moment, reason)
        for problem in kept.problems:
            self._emit(Event("target-failed", problem, f"pstore records cannot be copied: {problem}"))
        crash = Crash(
            time=moment,
            path=kept.path,
            state=State.MISSING,
            why=reason + telling.missing_more(before, unseen, unread),
            panic=pstore.panic_of(firmware),
            pstore=kept.records,
            identity=kept.identity,
            found=self._boot,
            host=before.host if before is not None else "",
            ended=before.boot_id if before is not None else "",
            since=(before.since or 0.0) if before is not None else 0.0,
        )
        known = known.with_crash(crash).with_seen(tuple(one.key for one in firmware))
        self._emit(telling.of_missing(crash, reason))
        self._keep(known)
        return known

    def _retain(self, known: Crashes) -> None:
        found, _ = opened_shelves(self._there)
        decision = prune.plan(found, known, self._policy.retention, self._host)
        pruned, known = prune.carry_out(decision, found, known, self._host)
        self._keep(known)
        for removal in pruned.removed:
            text = f"removed {removal.path} ({shown_size(removal.size)}): {removal.reason}"
            self._emit(Event("pruned", f"{removal.path}: {removal.reason}", text))
        for failed in pruned.failed:
            self._emit(Event("prune-failed", failed.why, failed.why))
        for remark in pruned.remarks:
            self._emit(Event("retention-unmet", remark, remark))


def renamed(found: Sequence[Shelf], known: Crashes) -> Crashes:
    """What somebody has renamed since is on record under the name that it has."""
    for folder in (folder for shelf in found for folder in shelf.folders if not folder.foreign):
        number = known.place(folder.path, folder.identity)
        if number is not None and known.crashes[number].path != folder.path:
            known = known.with_another(number, known.crashes[number]._replace(path=folder.path))
    return known


def unread_before(found: Sequence[Shelf], known: Crashes) -> list[Folder]:
    """The directories on record whose dump is still to be read."""
    folders = [folder for shelf in found for folder in shelf.folders if not folder.foreign]
    places = [known.place(folder.path, folder.identity) for folder in folders]
    both = zip(folders, places, strict=True)
    return [one for one, place in both if place is not None and known.crashes[place].state is State.UNREAD]


def new_crashes(found: Sequence[Shelf], known: Crashes) -> list[list[Folder]]:
    """The directories that were not found yet, those of one crash together (each target may have one), oldest first."""
    new: dict[tuple[str, float | None, str], list[Folder]] = {}
    for folder in prune.ordered(found, known):
        if not folder.foreign and known.place(folder.path, folder.identity) is None:
            # Two crashes may have one time, of a clock that starts in 1970 at each boot: their names differ then.
            new.setdefault((folder.told.host, folder.told.time, folder.name), []).append(folder)
    return list(new.values())


def surely(groups: Sequence[Sequence[Folder]], known: Crashes, before: Ended | None) -> dict[int, Crash]:
    """The crashes on record as missing that are surely these, by the number of the group; a doubtful one is left."""
    found: dict[int, Crash] = {}
    for number, group in enumerate(groups):
        moment = group[0].told.time or 0.0
        if before is not None and (before.since is None or moment >= before.since):
            continue
        missed = known.missed(moment)
        if len(missed) == 1 and missed[0].since > OLDEST and owns((missed[0].host,), group[0]):
            found[number] = missed[0]
    several = [missing for missing in found.values() if sum(one == missing for one in found.values()) > 1]
    return {number: missing for number, missing in found.items() if missing not in several}


def _fits(group: Sequence[Folder], before: Ended) -> bool:
    """Whether this may be the crash that ended that boot; a clock that was never set proves nothing."""
    moments = [folder.told.time for folder in group if folder.told.time and folder.told.time > OLDEST]
    return not moments or before.since is None or max(moments) >= before.since - _SLACK


def _near(one: pstore.Record, group: Sequence[Folder]) -> bool:
    """Whether a record was written when that machine crashed, by both their clocks."""
    moment = group[0].told.time
    return one.time is not None and moment is not None and abs(one.time - moment) < _SLACK


def policy_of(path: str, state: str) -> tuple[Policy, bool]:
    """The policy, and whether dumps may go by it: not by the last good one, which stands in for one that is broken."""
    try:
        return load(path), True
    except PolicyError:
        saved = sorted(glob.glob(f"{glob.escape(state)}/*/capture.policy.json"), key=os.path.getmtime)
        for name in reversed(saved):
            try:
                with open(name, encoding="utf-8", errors="replace") as stream:
                    return from_json(stream.read()), False
            except (OSError, PolicyError):
                continue
        raise


def _print(event: Event) -> None:
    print(json.dumps(event.document()), flush=True)


def main(arguments: Sequence[str] | None = None, places: Places | None = None) -> int:
    """0 when everything was looked at, told and put on record; 1 with one line on standard error where it was not."""
    parser = argparse.ArgumentParser(prog="python3 -m kdumpd.dumps.aftermath", allow_abbrev=False)
    parser.add_argument("--policy", metavar="FILE", default="/etc/kdumpd.yaml", help="the policy (default %(default)s)")
    options = parser.parse_args(arguments)
    say = partial(print, file=sys.stderr, flush=True)
    places = places or Places()
    os.nice(_NICE)
    try:
        policy, retain = policy_of(options.policy, places.state)
        with record.locked(say, places.state):
            unrecorded = Aftermath(policy, places, _print).run(retain=retain)
    except KdumpdError as error:
        say(str(error))
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
        return 1
    if unrecorded:
        say(unrecorded)
    return 1 if unrecorded else 0


if __name__ == "__main__":
    sys.exit(main())
