"""What `status` says, as values: the verdict first. May import the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Armed or not, and in one line what proves it or what stands in the way."""

    armed: bool
    reason: str
