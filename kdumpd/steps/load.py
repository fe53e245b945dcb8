"""The step that loads a crash kernel, as a value. May import `steps.reason`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdumpd.steps.reason import Reason


@dataclass(frozen=True)
class LoadCrashKernel:
    """Load `image` and `vmlinuz` as the crash kernel, with this whole command line."""

    vmlinuz: Path
    image: Path
    command_line: str
    release: str
    reasons: tuple[Reason, ...] = ()
