"""One capture in a guest, and when it did what: kdumpd's by a rehearsal, from the console that it leaves.

Times are seconds of the measuring machine's clock from the arrival of the capture kernel's first line on the serial
console, so that a guest's clock that starts late or runs slow does not flatter anybody. Used by `bench.guest`,
`bench.crashkernel` and `bench.imports`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kdumpd.policy import load
from kdumpd.policy.model import Boot, Policy
from kdumpd.rehearse import session
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import Scenario

FIRST_LINE = re.compile(r"\] Linux version ")


class ConsoleLine(NamedTuple):
    """A line and the seconds at which it arrived."""

    seconds: float
    text: str


class Times(NamedTuple):
    """Seconds from the capture kernel's first line: `init` is started, `runner` speaks, dump `begun` and `saved`."""

    init: float
    runner: float
    begun: float
    saved: float


class Marks(NamedTuple):
    """The patterns of the lines that tell `Times`."""

    runner: str
    begun: str
    saved: str


INIT = r"Run /init as init process"
OURS = Marks(r"kdumpd: \+", r"kdumpd: \+.* dump: begins", r"kdumpd: \+.* dump: saved")


def times(console: Iterable[ConsoleLine], marks: Marks) -> Times:
    """When the capture kernel, the second that this console shows, did what; LookupError names what it did not do."""
    lines = list(console)
    starts = [number for number, line in enumerate(lines) if FIRST_LINE.search(line.text)]
    if len(starts) < 2:
        raise LookupError("the console shows no capture kernel")
    capture = lines[starts[1] :]

    def at(pattern: str) -> float:
        for line in capture:
            if re.search(pattern, line.text):
                return line.seconds - capture[0].seconds
        raise LookupError(f"the console has no line like {pattern!r}; its last: {lines[-1].text!r}")

    return Times(at(INIT), at(marks.runner), at(marks.begun), at(marks.saved))


def console_of(outcome: Outcome) -> Iterator[ConsoleLine]:
    """A rehearsal's console."""
    for line in outcome.console:
        seconds, _, text = line.strip().partition(" ")
        yield ConsoleLine(float(seconds), text)


def policy(boot: Boot) -> Policy:
    """The default policy, booted so."""
    default = load.default()
    return replace(default, capture_kernel=replace(default.capture_kernel, boot=boot))


@contextmanager
def rehearsed(scenario: Scenario) -> Iterator[Outcome]:
    """The outcome of a rehearsal; its files, the image too, are there as long as the block."""
    with tempfile.TemporaryDirectory(prefix="kdumpd-bench-", dir="/var/tmp") as folder:
        yield session.rehearse(scenario, Path(folder))


def must_be_verified(outcome: Outcome) -> None:
    """RuntimeError unless the rehearsal's dump was verified: a number of a bad capture is no number."""
    if not outcome.verified:
        bad = [f"{check.name}: {check.found}" for check in outcome.checks if not check.good]
        raise RuntimeError(f"the capture failed: {outcome.failure or bad}; last line: {outcome.console[-1]}")
