"""The ladder: each target in turn, then the log alone, then the end that the policy names.

`on_failure` is walked from its start: `next-target` tries all that are left, `dmesg-only` saves the log where no target
holds it yet, and what follows is how the machine ends. Called by `capture.runner`.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdumpd.capture.attempt import Attempt
from kdumpd.capture.crash import tail
from kdumpd.capture.machine import Machine
from kdumpd.capture.step import Steps
from kdumpd.policy.model import Action, Policy

_TAIL = 30.0


def climb(attempts: Sequence[Attempt], policy: Policy, steps: Steps) -> tuple[Action, ...]:
    """The dump is saved, or all was tried that the policy allows; returns how to end, the first choice first."""
    waiting = list(attempts)
    rungs = list(policy.on_failure)
    if not waiting:
        steps.incident("target", "no target is known")
    elif _try(waiting, policy, steps, rungs):
        return (policy.on_success,)
    while rungs:
        rung = rungs.pop(0)
        if rung is Action.NEXT_TARGET:
            while waiting:
                if _try(waiting, policy, steps, [Action.NEXT_TARGET]):
                    return (policy.on_success,)
        elif rung is Action.DMESG_ONLY:
            _log_alone(attempts)
        else:
            return (rung, *rungs)
    return (Action.REBOOT,)


def _try(waiting: list[Attempt], policy: Policy, steps: Steps, rungs: Sequence[Action]) -> bool:
    """The first that waits holds the dump, or it is said that it does not; it waits no more."""
    attempt = waiting.pop(0)
    if not attempt.open():
        return False
    if policy.dump.dmesg:
        attempt.save_log()
    done = attempt.save_dump(others=bool(waiting) and Action.NEXT_TARGET in rungs)
    attempt.close()
    return done


def salvage(attempts: Sequence[Attempt], policy: Policy, steps: Steps) -> tuple[Action, ...]:
    """After a defect of the runner's own: the log is on a target if one takes it; returns how to end."""
    for attempt in attempts:
        steps.guard("capture", attempt.close)
    if any(attempt.saved for attempt in attempts):
        return (policy.on_success,)
    steps.guard("capture", lambda: _log_alone(attempts))
    return tuple(action for action in policy.on_failure if action not in (Action.NEXT_TARGET, Action.DMESG_ONLY))


def _log_alone(attempts: Sequence[Attempt]) -> None:
    """One target holds the log, if any can."""
    if any(attempt.dmesg is not None for attempt in attempts):
        return
    for attempt in attempts:
        if not attempt.open():
            continue
        saved = attempt.save_log()
        attempt.close()
        if saved:
            return


def leave_trace(attempts: Sequence[Attempt], machine: Machine, steps: Steps) -> None:
    """Where no target holds the log or the dump that it is in, the end of it is on the console."""
    if any(attempt.saved or attempt.dmesg is not None for attempt in attempts):
        return
    steps.incident("trace", "no target holds the crashed kernel's log; its last lines:")
    outcome = steps.run("trace", _TAIL, lambda tell: tail(machine.vmcore), floor=_TAIL)
    for line in outcome.result.get("lines", ()):
        steps.console.raw(f"kdumpd| {line}")
