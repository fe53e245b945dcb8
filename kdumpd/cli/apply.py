"""The verb `apply`: does what `plan` prints, under one lock, and proves that the crash kernel is loaded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kdumpd.cli.plan import situation
from kdumpd.plan import render, state
from kdumpd.plan.carry import carry_out
from kdumpd.plan.decide import decide


def _say(line: str) -> None:
    print(line, flush=True)


def run(options: argparse.Namespace) -> int:
    """Prints the plan and carries it out; 0 armed (or, in another root, built), 1 when something stands in the way."""
    root = Path(options.root).resolve()
    # Everything that could stand in the way is told before anything is touched, the lock included.
    if not _possible(decide(situation(options)).blocked):
        return 1
    with state.locked(root, lambda line: print(f"kdumpd apply: {line}", file=sys.stderr, flush=True)):
        # Who held the lock may have done it all.
        found = situation(options)
        plan = decide(found)
        if not _possible(plan.blocked):
            return 1
        for line in render.lines(plan, found):
            _say(line)
        carry_out(plan, found, root, _say)
    return 0


def _possible(blocked: tuple[str, ...]) -> bool:
    for line in blocked:
        print(f"kdumpd apply: {line}", file=sys.stderr)
    return not blocked
