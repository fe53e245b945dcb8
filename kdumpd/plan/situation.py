"""What a plan is a function of: the facts, what kdumpd left on the disk, and what an image would be made of.

Frozen values only; `plan.gather` fills them in. May import `host`, `image.manifest` and `steps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdumpd.host.facts import HostFacts
from kdumpd.image.manifest import Inputs, Manifest
from kdumpd.steps.build import BuildImage


@dataclass(frozen=True)
class LoadedRecord:
    """What kdumpd loaded last: it counts only in the boot it was made in."""

    boot_id: str
    image_sha256: str
    vmlinuz: str
    vmlinuz_sha256: str
    command_line: str


@dataclass(frozen=True)
class DiskState:
    """What lies under /var/lib/kdumpd: the image's manifest and policy (None: none, or not readable), its present hash
    ("" without an image), and the record of the last load."""

    manifest: Manifest | None
    policy_json: str | None
    image_sha256: str
    loaded: LoadedRecord | None


@dataclass(frozen=True)
class Situation:
    """Everything a plan depends on.

    `step` is the build that this situation calls for, without reasons, and `inputs` what it would be made from; both
    are None where `blocked` says why there can be none. `load` is false for a system that is not the running one.
    """

    facts: HostFacts
    state: DiskState
    step: BuildImage | None
    inputs: Inputs | None
    boot_reason: str
    command_line: str
    vmlinuz_sha256: str
    blocked: tuple[str, ...]
    image: Path
    load: bool = True
