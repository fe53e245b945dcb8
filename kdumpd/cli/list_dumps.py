"""`kdumpd list`: the dumps on every local target of the policy, the newest first. Reads no dump whole."""

from __future__ import annotations

import argparse
import json
import sys

from kdumpd.dumps import crashes
from kdumpd.dumps.crashes import Crashes
from kdumpd.dumps.folder import shelves
from kdumpd.dumps.listing import Listed, listing
from kdumpd.dumps.owner import this_host
from kdumpd.errors import DumpError, HostError
from kdumpd.plan.line import printable
from kdumpd.policy.load import load
from kdumpd.policy.units import shown_size
from kdumpd.target.local import utc

VERSION = 1


def run(options: argparse.Namespace, state: str = crashes.STATE_FOLDER, proc: str = "/proc") -> int:
    """Prints the list; 0, or 1 when a target or the record of verified dumps could not be read, after what could."""
    targets = tuple(target.path for target in load(options.policy).targets)
    found, problems = shelves(targets)
    known, doubt = _known(state)
    listed = listing(found, known, this_host(proc))
    if options.json:
        document = {
            "version": VERSION,
            "targets": [{"path": shelf.path, "free": shelf.free} for shelf in found],
            "dumps": [one._asdict() for one in listed],
            "problems": [*problems, *doubt],
        }
        print(json.dumps(document, indent=2))
    else:
        for one in listed:
            print("\n".join(_lines(one)))
        if not listed and not problems:
            print(f"no dumps on {', '.join(targets)}")
    for line in (*problems, *doubt):
        print(f"kdumpd list: {line}", file=sys.stderr)
    return 1 if problems or doubt else 0


def _known(state: str) -> tuple[Crashes, tuple[str, ...]]:
    try:
        return crashes.read(state) or Crashes(), ()
    except (DumpError, HostError) as error:
        return Crashes(), (str(error),)


def _lines(one: Listed) -> list[str]:
    when = "unknown" if one.time is None else utc("%Y-%m-%d %H:%M:%S UTC", one.time)
    lines = [f"{when:<23}  {one.state.value:<10}  {shown_size(one.size):>10}  {printable(one.path)}"]
    who = ", ".join(part for part in (one.host, one.release) if part)
    told = ": ".join(part for part in (who, one.panic) if part)
    return lines + [f"    {text}" for text in (told, one.why) if text]
