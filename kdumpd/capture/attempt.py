"""One target's try: find and mount it, save the log, save the dump or what can be had of it, tell the story, unmount.

The dump's own rungs are `capture.dumping`'s; what comes after them (the next target, the log alone, the end) is
`capture.ladder`'s. May import what is below that in `capture`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from kdumpd.capture import crash as crashed
from kdumpd.capture import record
from kdumpd.capture.child import Tell
from kdumpd.capture.door import Outcome, Result
from kdumpd.capture.dumping import Dumping
from kdumpd.capture.machine import Machine
from kdumpd.capture.probe import Probe
from kdumpd.capture.record import Crash, Kept
from kdumpd.capture.settings import Settings
from kdumpd.capture.step import Steps
from kdumpd.errors import TargetError
from kdumpd.policy.model import EngineChoice
from kdumpd.target import device, local

_WAIT = 30.0  # seconds for a device to come up
_TARGET = 60.0  # ... and for it to be mounted, whose journal may have to be replayed
_LOG = 60.0
_RECORD = 20.0
_LOOK = 10.0
_UNMOUNT = 60.0
# What a spent budget leaves the steps that save the log: a crash is never left without a trace.
_FLOOR = 15.0
_SHARE = 0.75  # of the time left, for a dump that has other targets behind it


class Attempt:
    """A target while it is tried; can be opened again after `close`."""

    def __init__(
        self, machine: Machine, steps: Steps, settings: Settings, crash: Crash, place: local.Place, probe: Probe
    ) -> None:
        self._machine = machine
        self._probe = probe
        self._steps = steps
        self._settings = settings
        self._crash = crash
        self._place = place
        self._directory = ""
        self._target: dict[str, Any] = place._asdict()
        self._dump: dict[str, Any] | None = None
        self._failure = ""
        self._tried = False
        self.dmesg: int | None = None

    @property
    def saved(self) -> bool:
        """This target holds the dump, complete and on the disk."""
        return self._dump is not None

    def open(self) -> bool:
        """The target is mounted, and this crash has its directory there."""
        self._tried = True
        outcome = self._opened()
        if outcome.failure is not None:
            self._failure = outcome.failure.text
            self._unmount()
            self._tried = False
            return False
        self._directory = outcome.result["directory"]
        self._steps.stage.begin(self._directory)
        self._target |= outcome.result["target"]
        return True

    def _opened(self) -> Outcome:
        while True:
            outcome = self._steps.run("target", _TARGET, self._opening, floor=_FLOOR, sooner=self._probe.overdue)
            dead = self._probe.bury() if outcome.failure is not None else ""
            if not dead:
                return outcome
            self._steps.incident("target", f"{dead}: does not answer; the target is looked for without it")

    def _opening(self, tell: Tell) -> Result:
        place, machine, clock = self._place, self._machine, self._steps.console.clock
        found = device.wait_for(place.device, clock() + _WAIT, clock, self._probe.places(), place.assembled)
        kind = local.attach(place, found, machine.mount_point, machine.mount)
        parent = local.inside(machine.mount_point, place.directory)
        directory = self._directory or local.make_directory(parent, self._crash.host, self._crash.time)
        if not os.path.isdir(directory):
            raise TargetError(f"{directory}: was made and is not there any more")
        self._steps.stage.begin(directory)  # in this child alone: the runner does once it is told
        self._steps.stage.leave("target", "mounted")
        free = local.free_bytes(directory)
        tell("target", f"{found.path} ({kind}) mounted, {free >> 20} MiB free, {self._shown(directory)}")
        return {"directory": directory, "target": {"found": found.path, "mounted_as": kind, "free": free}}

    def _shown(self, directory: str) -> str:
        """The directory as the administrator knows it: below the policy's path."""
        return f"{self._place.path.rstrip('/')}/{os.path.basename(directory)}"

    def save_log(self) -> bool:
        """dmesg.txt is in the directory and on the disk."""

        def work(tell: Tell) -> Result:
            result = crashed.save_log(self._machine.vmcore, self._directory)
            tell("dmesg", f"{result['bytes']} bytes saved")
            return result

        outcome = self._steps.run("dmesg", _LOG, work, floor=_FLOOR)
        if outcome.failure is None:
            self.dmesg = outcome.result["bytes"]
        return outcome.failure is None

    def save_dump(self, others: bool) -> bool:
        """vmcore is in the directory, complete and on the disk; `others`: further targets can be tried after this."""
        self._write_record(keep_room=True)
        allowed = max(0.0, self._steps.left * (_SHARE if others else 1.0))
        self._steps.say("dump", f"begins, {allowed:.0f} s at most")
        machine, final = self._machine, f"{self._directory}/vmcore"
        outcome = Dumping(machine.vmcore, final, machine.scanner, self._steps, self._settings).run(allowed)
        return self._take(outcome)

    def _take(self, outcome: Outcome) -> bool:
        if outcome.failure is not None:
            self._failure = outcome.failure.text
            self._steps.run("dump", _LOOK, self._telling_what_stays, floor=_LOOK)
            return False
        self._dump = outcome.result
        meaning = self._dump["free_pages"]["meaning"]
        for warning in (*self._dump["warnings"], *([meaning] if meaning else ())):
            self._steps.incident("scan", warning)
        self._tell_trouble(self._dump)
        return True

    def _tell_trouble(self, dump: dict[str, Any]) -> None:
        """What the page-scan module did not do: an incident only where the policy names it."""
        steps, scan, source = self._steps, dump["scan"], dump["source_trouble"]
        say = steps.incident if self._settings.policy.scan.engine is EngineChoice.KERNEL else steps.note
        if scan is not None and scan["fell_back"]:
            say("scan", f"the module did not get to the end: {scan['why']}")
        if source:
            say("dump", f"pages came from the vmcore, not from the module's map, in the end: {source}")

    def _telling_what_stays(self, tell: Tell) -> Result:
        """In a child: the file system may be what the dump failed from."""
        with suppress(FileNotFoundError):
            size = os.stat(f"{self._directory}/vmcore{local.INCOMPLETE}").st_size
            tell("dump", f"what was written stays as vmcore{local.INCOMPLETE}, {size >> 20} MiB")
        return {}

    def close(self) -> None:
        """The story is told beside the dump, everything is on the disk, and an opened target is unmounted."""
        if not self._tried:
            return
        if self._directory:
            self._write_record(keep_room=False)
            self._steps.stage.end()
        self._unmount()
        self._tried = False

    def _write_record(self, *, keep_room: bool) -> None:
        kept = Kept(
            self._shown(self._directory),
            self._target,
            self.dmesg,
            self._dump,
            self._failure,
            complete=self.saved,
        )

        def work(tell: Tell) -> Result:
            content = record.document(self._settings, self._crash, kept, self._steps)
            record.write(self._directory, content, self._steps.console.lines, keep_room=keep_room)
            if not keep_room:
                self._steps.stage.remove()
            return {}

        self._steps.run("record", _RECORD, work, floor=_RECORD)

    def _unmount(self) -> None:
        machine = self._machine

        def work(tell: Tell) -> Result:
            if os.path.ismount(machine.mount_point):
                machine.sync(machine.mount_point)
                machine.unmount(machine.mount_point)
                tell("unmount", "synced and unmounted")
            return {}

        if self._steps.run("unmount", _UNMOUNT, work, floor=_UNMOUNT).failure is not None:
            self._steps.run("unmount", _UNMOUNT, lambda tell: _detached(machine), floor=_RECORD)


def _detached(machine: Machine) -> Result:
    """The mount point is free for the next target, though this one is still busy."""
    machine.detach(machine.mount_point)
    return {}
