"""How the machine ends: the actions of the policy that end it, tried in order until one does.

Called by `capture.runner`. May import `policy.model`, `capture.machine` and `capture.step`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from kdumpd.capture.door import Result, guarded
from kdumpd.capture.machine import Machine
from kdumpd.capture.step import Steps
from kdumpd.policy.model import Action


def end(actions: Sequence[Action], machine: Machine, steps: Steps) -> None:
    """Returns only where the kernel refuses all of them, or under a test."""
    for action in (*actions, Action.REBOOT):
        steps.say("end", action.value)
        outcome = guarded(partial(_do, action, machine, steps))
        if outcome.failure is None and action is not Action.SHELL:
            return
        if outcome.failure is not None:
            steps.say("end", f"{action.value} failed: {outcome.failure.text}")


def _do(action: Action, machine: Machine, steps: Steps) -> Result:
    if action is Action.SHELL:
        _shell(machine, steps)
    elif action is Action.POWEROFF:
        machine.power_off()
    elif action is Action.HALT:
        machine.halt()
    else:
        machine.restart()
    return {}


def _shell(machine: Machine, steps: Steps) -> None:
    """A person was at the console, for as long as they liked; there is no deadline."""
    if not os.access(machine.shell, os.X_OK):
        steps.say("end", f"there is no {machine.shell} in this image")
        return
    process = os.fork()
    if process == 0:
        _become_shell(machine.shell)
    while True:
        gone, _ = os.wait()
        if gone == process:
            return


def _become_shell(shell: str) -> None:
    """Never returns; in a session of its own, the console is its terminal."""
    try:
        os.setsid()
        console = os.open("/dev/console", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(console, descriptor)
        os.execv(shell, [shell, "-i"])
    finally:
        os._exit(1)
