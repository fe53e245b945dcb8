"""The capture, from a kernel that has just started to the end of the machine: an explicit sequence of steps.

Whatever a step meets, the sequence goes on: a default takes the place of what is missing, and the ladder decides what
can still be saved. Called by `capture.__main__`. May import all of `capture`, and `target`.
"""

from __future__ import annotations

import os
import signal
import time

from kdumpd import __version__
from kdumpd.capture import drivers, manifest, scanner, settings
from kdumpd.capture.attempt import Attempt
from kdumpd.capture.console import Console
from kdumpd.capture.crash import identify
from kdumpd.capture.door import Result, guarded
from kdumpd.capture.ending import end
from kdumpd.capture.ladder import climb, leave_trace, salvage
from kdumpd.capture.machine import Machine
from kdumpd.capture.probe import Probe
from kdumpd.capture.record import Crash
from kdumpd.capture.settings import DEFAULT_POLICY, Settings
from kdumpd.capture.step import Steps
from kdumpd.policy.model import Action
from kdumpd.target.local import utc

_IDENTIFY = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Known:
    """What the runner knows so far: where a defect stops it, what comes then begins with this."""

    def __init__(self, machine: Machine) -> None:
        self.settings = settings.NOTHING
        self.attempts: list[Attempt] = []
        self.actions: tuple[Action, ...] = ()
        self.machine = machine

    def aim(self, steps: Steps, crash: Crash) -> None:
        """There is an attempt for each target."""
        probe = Probe(self.machine.devices, steps.console.clock)
        point = self.machine.mount_point
        # Each has a mount point of its own: a mount that comes after its deadline must not cover the next target's.
        self.attempts = [
            Attempt(self.machine._replace(mount_point=f"{point}/{number}"), steps, self.settings, crash, place, probe)
            for number, place in enumerate(self.settings.places)
        ]


def capture(machine: Machine, console: Console) -> None:
    """What can be saved is saved, and the machine ends as the policy says; never raises."""
    steps = Steps(console, DEFAULT_POLICY.time_budget)
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: steps.stop())
    known = _Known(machine)
    if not steps.guard("capture", lambda: _save(machine, steps, known)):
        steps.guard("capture", lambda: _salvage(steps, known))
    steps.guard("trace", lambda: leave_trace(known.attempts, machine, steps))
    end(known.actions, machine, steps)


def _save(machine: Machine, steps: Steps, known: _Known) -> None:
    known.settings = settings.read(machine.settings)
    policy = known.settings.policy
    steps.set_budget(policy.time_budget)
    steps.say("start", f"kdumpd {__version__} on {os.uname().release}, {policy.time_budget} s for everything")
    _check_image(machine, steps)
    for problem in known.settings.problems:
        steps.incident("policy", problem)
    _load_modules(machine, steps, known.settings)
    known.aim(steps, _identify(machine, steps, known.settings))
    known.actions = climb(known.attempts, policy, steps)


def _salvage(steps: Steps, known: _Known) -> None:
    """The runner itself met a defect: what is left are the log and the end that the policy names."""
    if not known.attempts:
        known.aim(steps, Crash(known.settings.hostname, time.time(), "", ""))
    known.actions = salvage(known.attempts, known.settings.policy, steps)


def _check_image(machine: Machine, steps: Steps) -> None:
    said: list[str] = []

    def work() -> Result:
        said.append(manifest.check(machine.settings))
        return {}

    failure = guarded(work).failure
    if failure is None:
        steps.say("image", said[0])
    else:
        steps.incident("image", failure.text)


def _load_modules(machine: Machine, steps: Steps, known: Settings) -> None:
    words, modules = _command_line(machine), known.modules
    drivers.load(steps, machine.load_module, [path for path in modules if not scanner.is_scanner(path)], words)
    scanner.load(steps, machine.load_module, modules, words, known.policy.scan.engine)


def _command_line(machine: Machine) -> str:
    try:
        with open(machine.command_line, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _identify(machine: Machine, steps: Steps, known: Settings) -> Crash:
    """Who crashed and when; by the image's own knowledge where the crashed kernel does not say."""
    outcome = steps.run("crash", _IDENTIFY, lambda tell: identify(machine.vmcore), floor=_IDENTIFY)
    found = outcome.result
    crash = Crash(
        found.get("host") or known.hostname,
        found.get("time", time.time()),
        found.get("release", ""),
        found.get("machine", ""),
    )
    when = utc("%Y-%m-%d %H:%M:%S UTC", crash.time)
    steps.say("crash", f"{crash.host or 'a host without a name'}, kernel {crash.release or 'unknown'}, {when}")
    return crash
