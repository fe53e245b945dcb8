"""The verb `status`: armed or not and why not, in one line first."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from kdumpd.cli.ink import show
from kdumpd.errors import PolicyError
from kdumpd.host import facts
from kdumpd.plan import source, state
from kdumpd.plan.decide import decide
from kdumpd.plan.gather import gather
from kdumpd.plan.situation import PolicyFile
from kdumpd.policy.model import Policy
from kdumpd.status import assess, records, render
from kdumpd.status.value import PolicyState, Status

#: Exit codes: armed, not armed; an error ends with its own.
ARMED, NOT_ARMED = 0, 3

ROOT = Path("/")


def run(options: argparse.Namespace) -> int:
    """Prints what is known; 0 armed, 3 not armed."""
    found = status(options.policy)
    if options.json:
        print(json.dumps(render.document(found), indent=2))
    else:
        show(render.lines(found, time.time()))
    return ARMED if found.verdict.armed else NOT_ARMED


def status(path: str) -> Status:
    """The status of this machine under the policy in a file, else under the last good one."""
    kept = records.read(ROOT)
    policy: Policy | None
    try:
        policy, file = source.read(path)
        stated = PolicyState(path)
    except PolicyError as error:
        policy, file = source.last_good(ROOT, facts.read().kernel.release), PolicyFile()
        stated = PolicyState(path, error.problems, last_good=policy is not None)
    if not state.may_read(ROOT):
        return assess.from_outside(facts.read(), stated, kept)
    working = state.holder(ROOT)
    if policy is None:
        return assess.without_policy(facts.read(), stated, kept, working)
    situation = gather(policy, ROOT, file=file)
    return assess.assess(decide(situation), situation, stated, kept, working)
