"""The step that builds a capture image, as a value: everything `image.build` needs, and why it is to be done.

Made by `plan` for the running system and by `rehearse` for a throwaway machine. May import `steps.reason`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdumpd.steps.reason import Reason


class CaptureTarget(NamedTuple):
    """A target as the capture kernel finds it.

    `device` is `UUID=…` or a path under /dev; `directory` lies inside its file system, `path` is how the
    running system calls it; `drivers` are the kernel modules (or aliases) of the device, top layer first; `assembled`
    says that the device is made of others (RAID, LVM).
    """

    device: str
    fstype: str
    directory: str
    path: str
    drivers: tuple[str, ...] = ()
    options: str = ""
    assembled: bool = False


@dataclass(frozen=True)
class BuildImage:
    """Build the capture image of one kernel for one policy.

    `boot` is "direct" or "dracut"; `dracut_modules` are the dracut modules that the targets need (dracut way only);
    `hands_off` are physical byte ranges (start, end) that the runner leaves out of the dump; `reservation` is in bytes,
    None when it is not known; `engine` is the policy's scan.engine. `output` is the image's final path; its manifest
    lies beside it.
    """

    release: str
    modules: Path
    policy_json: str
    targets: tuple[CaptureTarget, ...]
    output: Path
    hostname: str = "localhost"
    boot: str = "direct"
    drivers: tuple[str, ...] = ()
    dracut_modules: tuple[str, ...] = ()
    hands_off: tuple[tuple[int, int], ...] = ()
    reservation: int | None = None
    engine: str = "auto"
    firmware: Path = Path("/lib/firmware")
    reasons: tuple[Reason, ...] = ()
