"""`kdumpd check [FILE]`: validate a policy and print every problem in it."""

from __future__ import annotations

import argparse

from kdumpd.policy.load import load


def run(args: argparse.Namespace) -> int:
    """0 when the policy is valid; otherwise PolicyError, which the door prints one problem a line."""
    load(args.file)
    print(f"{args.file}: valid")
    return 0
