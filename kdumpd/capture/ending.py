"""How the machine ends: the actions of the policy that end it, tried in order until one does.

Called by `capture.runner`. May import `policy.model`, `capture.machine` and `capture.step`.
"""

from __future__ import annotations

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
        outcome = guarded(partial(_do, action, machine))
        if outcome.failure is None:
            return
        steps.say("end", f"{action.value} failed: {outcome.failure.text}")


def _do(action: Action, machine: Machine) -> Result:
    if action is Action.POWEROFF:
        machine.power_off()
    elif action is Action.HALT:
        machine.halt()
    else:
        machine.restart()
    return {}
