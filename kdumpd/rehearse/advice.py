"""What to try when a rehearsal fails, by where it failed. Pure. Called by `rehearse.report`.

May import of `rehearse` the modules of values.
"""

from __future__ import annotations

from typing import NamedTuple

from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.timeline import Phase

_LESS = "a larger reservation: --crashkernel 256M (what it should be here: kdumpd plan, or the line about memory above)"


class _Rule(NamedTuple):
    """If `sign` stands in the console's end or the failure, `line` may help."""

    sign: str
    line: str


_SIGNS = (
    _Rule("out of memory", _LESS),
    _Rule("oom-killer", _LESS),
    _Rule("the image is not whole", _LESS),
    _Rule("System is deadlocked on memory", _LESS),
    _Rule("crashkernel reservation failed", "a smaller --crashkernel, or more --memory"),
    _Rule("no such block device", "the driver of that disk: is it in the image's list of drivers (kdumpd plan)?"),
    _Rule("No space left", "a target with more room, or a higher dump.level"),
    _Rule("broken policy", "kdumpd apply: the image carries a policy that cannot be read"),
)

_BY_PHASE = {
    Phase.BOOT: "another kernel (--kernel), or more --memory; the first kernel did not come to its own program",
    Phase.PREPARE: "the line above it on the console: the first kernel could not be made ready to crash",
    Phase.CRASH: (
        "another way to crash (--panic sysrq): the capture kernel never spoke; if it does so with every way, "
        "capture_kernel.append: [earlyprintk=serial] shows its first words"
    ),
    Phase.CAPTURE_BOOT: (
        "capture_kernel.append and remove without your own words, then a larger --crashkernel: the capture kernel "
        "died or hung before the runner began"
    ),
    Phase.CAPTURE: "the runner's last step above: it did not come to its end",
    Phase.ENDED: "capture.log and kdumpd.json of what was saved (--output DIR keeps them)",
    Phase.JUDGE: "capture.log and kdumpd.json of what was saved (--output DIR keeps them)",
}


def advice(outcome: Outcome) -> tuple[str, ...]:
    """Lines that say what to try, the likeliest first."""
    text = "\n".join((*outcome.console[-200:], outcome.failure)).lower()
    lines = [rule.line for rule in _SIGNS if rule.sign.lower() in text]
    phase = next((event.phase for event in reversed(outcome.events) if event.phase is not Phase.JUDGE), Phase.BOOT)
    return tuple(dict.fromkeys([*lines, _BY_PHASE.get(phase, _BY_PHASE[Phase.JUDGE])]))
