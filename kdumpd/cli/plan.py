"""The verb `plan`: what `apply` would do and why, changing nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kdumpd.plan import render
from kdumpd.plan.decide import decide
from kdumpd.plan.gather import gather
from kdumpd.plan.situation import Situation
from kdumpd.policy.load import load

#: Exit codes: nothing to do, error, changes pending.
DONE, ERROR, PENDING = 0, 1, 3

DEFAULT_POLICY = "/etc/kdumpd.yaml"


def situation(options: argparse.Namespace) -> Situation:
    """The situation that the arguments name; the default policy of another root is the one there."""
    root = Path(options.root).resolve()
    policy = options.policy
    if policy == DEFAULT_POLICY:
        policy = str(root / policy.lstrip("/"))
    return gather(load(policy), root)


def run(options: argparse.Namespace) -> int:
    """Prints the plan; 0 nothing to do, 3 changes pending, 1 when something stands in the way."""
    found = situation(options)
    plan = decide(found)
    if options.json:
        print(json.dumps(render.document(plan, found), indent=2))
    else:
        for line in render.lines(plan, found):
            print(line)
        for line in plan.blocked:
            print(f"kdumpd plan: {line}", file=sys.stderr)
    if plan.blocked:
        return ERROR
    return PENDING if plan.steps else DONE
