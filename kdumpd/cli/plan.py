"""The verb `plan`: what `apply` would do and why, changing nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kdumpd.cli.ink import show
from kdumpd.errors import HostError, PolicyError
from kdumpd.host import statefile
from kdumpd.plan import render, source, state
from kdumpd.plan.decide import decide
from kdumpd.plan.gather import gather
from kdumpd.plan.situation import Situation

#: Exit codes: nothing to do, error, changes pending.
DONE, ERROR, PENDING = 0, 1, 3

KEPT = "nothing was changed by it: what was armed with the last good policy stays armed"


def situation(options: argparse.Namespace, release: str = "") -> Situation:
    """The situation that the arguments name; PolicyError when the policy is not valid."""
    root = Path(options.root).resolve()
    if not state.may_read(root):
        raise HostError(f"{statefile.folder(root)}: only root may read what kdumpd keeps there; run it as root")
    policy, file = source.read(source.path_in(root, options.policy))
    return gather(policy, root, file=file, release=release)


def run(options: argparse.Namespace) -> int:
    """Prints the plan; 0 nothing to do, 3 changes pending, 1 when something stands in the way."""
    try:
        found = situation(options)
    except PolicyError as error:
        if options.json:
            print(json.dumps(render.refused(error.problems), indent=2))
        raise PolicyError((*error.problems, f"kdumpd plan: the policy is not valid; {KEPT}")) from error
    plan = decide(found)
    if options.json:
        print(json.dumps(render.document(plan, found), indent=2))
    else:
        show(render.lines(plan, found))
        for line in plan.blocked:
            print(f"kdumpd plan: {line}", file=sys.stderr)
    if plan.blocked:
        return ERROR
    return PENDING if plan.everything else DONE
