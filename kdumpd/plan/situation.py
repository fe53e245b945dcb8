"""What a plan is a function of: the facts, what kdumpd left on the disk, and what an image would be made of.

Frozen values only; `plan.gather` fills them in. May import `host`, `image.manifest`, `loader.contents` and `steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdumpd.host.facts import HostFacts
from kdumpd.image.manifest import Inputs, Manifest
from kdumpd.loader.contents import Found, Piece
from kdumpd.steps.build import BuildImage


@dataclass(frozen=True)
class LoadedRecord:
    """What kdumpd loaded last: it counts only in the boot it was made in.

    `time` in seconds since 1970, `reservation` in bytes, `pieces` where it lies in the reservation (as long as
    `pieces_boot_id` is this boot), `nodes` the device of each target then, `cpus` and `memory` what its ELF header
    lists (`host.hardware`).
    """

    boot_id: str
    image_sha256: str
    vmlinuz: str
    vmlinuz_sha256: str
    command_line: str
    release: str = ""
    time: float = 0
    reservation: int = 0
    pieces: tuple[Piece, ...] = ()
    pieces_boot_id: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    memory: str = ""


@dataclass(frozen=True)
class BuiltRecord:
    """What a build was told about the machine, as far as the image's manifest has only a hash of it; `size` in bytes
    as packed, `time` in seconds since 1970, `targets` as in the image's targets.json."""

    image_sha256: str
    size: int
    time: float
    targets: Mapping[str, object]


@dataclass(frozen=True)
class DiskState:
    """What lies under /var/lib/kdumpd: the image's manifest and policy (None: none, or not readable), its present hash,
    size and time ("" and 0 without an image), what is known of its build, and the record of the last load."""

    manifest: Manifest | None
    policy_json: str | None
    image_sha256: str
    loaded: LoadedRecord | None
    built: BuiltRecord | None = None
    image_size: int = 0
    image_time: float = 0


@dataclass(frozen=True)
class PolicyFile:
    """The file that the policy came from: its name, and the line of each value that stands in it by dotted path."""

    name: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Situation:
    """Everything a plan depends on.

    `step` is the build that this situation calls for, without reasons, and `inputs` what it would be made from; both
    are None where `blocked` says why there can be none. `load` is false for a kernel that is not the running one.
    `nodes` are the targets' devices by path, `target_paths` every target of the policy, be it found or not; `memory` is
    what the reservation holds of what was loaded; `rival` names another kdump service that is installed; `disarmed`
    says that `kdumpd disarm` was the last word; `running` is the running kernel's release; `ahead` the situation of
    the newest kernel that is installed, where that is another.
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
    policy_file: PolicyFile = PolicyFile()
    nodes: Mapping[str, str] = field(default_factory=dict)
    target_paths: tuple[str, ...] = ()
    memory: Found = Found.UNKNOWN
    rival: str = ""
    disarmed: bool = False
    running: str = ""
    ahead: Situation | None = None
