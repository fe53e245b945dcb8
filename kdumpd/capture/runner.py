"""The capture, from a kernel that has just started to the end of the machine: an explicit sequence of steps.

Whatever a step meets, the sequence goes on: a default takes the place of what is missing, and the ladder decides what
can still be saved. Called by `capture.__main__`. May import all of `capture`.
"""

from __future__ import annotations

import os
import signal
import time

from kdumpd import __version__
from kdumpd.capture import drivers, manifest, settings
from kdumpd.capture.attempt import Attempt
from kdumpd.capture.console import Console
from kdumpd.capture.crash import identify
from kdumpd.capture.door import Result, guarded
from kdumpd.capture.ending import end
from kdumpd.capture.ladder import climb, leave_trace
from kdumpd.capture.machine import Machine
from kdumpd.capture.record import Crash
from kdumpd.capture.settings import DEFAULT_POLICY, Settings
from kdumpd.capture.step import Steps
from kdumpd.policy.model import Action

_IDENTIFY = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def capture(machine: Machine, console: Console) -> None:
    """What can be saved is saved, and the machine ends as the policy says; never raises."""
    steps = Steps(console, DEFAULT_POLICY.time_budget)
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: steps.stop())
    actions: list[Action] = []

    def work() -> Result:
        actions.extend(_save(machine, steps))
        return {}

    outcome = guarded(work)
    if outcome.failure is not None:
        steps.incident("capture", f"failed: {outcome.failure.text}")
        actions = [action for action in DEFAULT_POLICY.on_failure if action is Action.REBOOT]
    end(actions, machine, steps)


def _save(machine: Machine, steps: Steps) -> tuple[Action, ...]:
    known = settings.read(machine.settings)
    policy = known.policy
    steps.set_budget(policy.time_budget)
    steps.say("start", f"kdumpd {__version__} on {os.uname().release}, {policy.time_budget} s for everything")
    _check_image(machine, steps)
    for problem in known.problems:
        steps.incident("policy", problem)
    drivers.load(steps, machine.load_module, known.modules, _command_line(machine))
    crash = _identify(machine, steps, known)
    attempts = [Attempt(machine, steps, known, crash, place) for place in known.places]
    actions = climb(attempts, policy, steps)
    leave_trace(attempts, machine, steps)
    return actions


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
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(crash.time))
    steps.say("crash", f"{crash.host or 'a host without a name'}, kernel {crash.release or 'unknown'}, {when}")
    return crash
