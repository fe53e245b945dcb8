"""The record of the last rehearsal of an armed image, /var/lib/kdumpd/rehearsal.json, which `kdumpd status` reads.

Called by `cli.rehearse`. May import `host.statefile` and of `rehearse` `outcome`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdumpd.host import statefile
from kdumpd.rehearse.outcome import Outcome

NAME = "rehearsal.json"
VERSION = 1


def document(outcome: Outcome, now: float) -> dict[str, Any]:
    """What is kept: the kernel and image, how it crashed, whether the dump was verified, and if not, where and why."""
    bad = ", ".join(check.name for check in outcome.checks if not check.good)
    return {
        "version": VERSION,
        "time": int(now),
        "release": outcome.scenario.kernel.release,
        "image_sha256": outcome.image.sha256,
        "verified": outcome.verified,
        "panic": str(outcome.scenario.panic),
        "seconds": round(outcome.seconds, 1),
        "stage": outcome.stage,
        "why": "" if outcome.verified else outcome.failure or f"not good: {bad}",
    }


def write(root: Path, outcome: Outcome, now: float) -> Path:
    """The record is replaced; its path. HostError where it cannot be."""
    path = statefile.folder(root) / NAME
    statefile.replace(path, document(outcome, now))
    return path
