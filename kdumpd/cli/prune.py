"""`kdumpd prune`: what the policy's retention does not keep goes, each with its reason; or says what would go."""

from __future__ import annotations

import argparse
import json
import sys

from kdumpd.dumps import crashes, prune
from kdumpd.dumps.crashes import Crashes
from kdumpd.dumps.folder import shelves
from kdumpd.dumps.owner import this_host
from kdumpd.dumps.prune import Pruned
from kdumpd.policy.load import load
from kdumpd.policy.units import shown_size

VERSION = 1


def run(options: argparse.Namespace, state: str = crashes.STATE_FOLDER, proc: str = "/proc") -> int:
    """Removes, or with --dry-run names, what goes; 0, or 1 when a target or a dump could not be dealt with."""
    policy = load(options.policy)
    targets = tuple(target.path for target in policy.targets)
    with crashes.locked(lambda line: print(f"kdumpd prune: {line}", file=sys.stderr, flush=True), state):
        known = crashes.read(state) or Crashes()
        found, problems = shelves(targets)
        host = this_host(proc)
        decision = prune.plan(found, known, policy.retention, host)
        if options.dry_run:
            pruned = Pruned(decision.removals, (), decision.remarks)
        else:
            pruned, known = prune.carry_out(decision, found, known, host)
            problems = (*problems, *_recorded(known, state))
    if options.json:
        document = {
            "version": VERSION,
            "dry_run": options.dry_run,
            "removed": [removal._asdict() for removal in pruned.removed],
            "failed": [failed._asdict() for failed in pruned.failed],
            "remarks": list(pruned.remarks),
            "problems": list(problems),
        }
        print(json.dumps(document, indent=2))
    else:
        verb = "would remove" if options.dry_run else "removed"
        for removal in pruned.removed:
            print(f"{verb} {removal.path} ({shown_size(removal.size)}): {removal.reason}")
        if not pruned.removed and not pruned.failed:
            print("nothing to remove")
    for line in (*(failed.why for failed in pruned.failed), *pruned.remarks, *problems):
        print(f"kdumpd prune: {line}", file=sys.stderr)
    return 1 if pruned.failed or problems else 0


def _recorded(known: Crashes, state: str) -> tuple[str, ...]:
    """The record is written, or why it is not: what went is told all the same."""
    try:
        crashes.write(known, state)
    except OSError as error:
        return (f"{state}/{crashes.NAME}: cannot be written: {error.strerror}; make room there",)
    return ()
