"""The verb `status`: armed or not and why not, in one line first."""

from __future__ import annotations

import argparse
import json

from kdumpd.plan.decide import decide
from kdumpd.plan.gather import gather
from kdumpd.policy.load import load
from kdumpd.status.assess import verdict

#: Exit codes: armed, not armed; an error ends with its own.
ARMED, NOT_ARMED = 0, 3


def run(options: argparse.Namespace) -> int:
    """Prints what is known; 0 armed, 3 not armed."""
    situation = gather(load(options.policy))
    found = verdict(decide(situation), situation)
    if options.json:
        print(json.dumps({"version": 1, "armed": found.armed, "reason": found.reason}, indent=2))
    else:
        print(f"{'armed' if found.armed else 'not armed'}: {found.reason}")
    return ARMED if found.armed else NOT_ARMED
