"""What a rehearsal is asked to do, as plain values.

`cli.rehearse` makes one from the command line; tests make their own with full disks, broken files and other words on
the capture kernel's command line. Obeyed by `rehearse.session`. May import `policy.model`, `rehearse.controllers` and
`rehearse.kernels`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdumpd.policy.model import Policy
from kdumpd.rehearse.controllers import VIRTIO_BLK, Controller
from kdumpd.rehearse.kernels import Kernel


class Panic(enum.StrEnum):
    """How the first kernel is made to crash."""

    SYSRQ = "sysrq"
    NMI = "nmi"
    OOPS = "oops"
    OOM = "oom"


@dataclass(frozen=True)
class Disk:
    """A throwaway disk of `size` bytes (sparse) that holds the target directories named, as the policy names them.

    `inside` are the same as its file system calls them, where that is something else. The file system is of this
    `kind`, `uuid` (empty: a new one) and mount `options`. `own_driver`, `own_kind`: the image has to bring the modules
    of the controller, of the file system itself; else the second initrd lends them. `layers` (LVM, RAID; top first) lie
    below the file system. `unlike` says what this disk is not
    that the host's is. `free`: the first kernel fills it up to so many bytes left. `read_only`: the VM may not write to
    it. `attached` False: a target that is not there.
    """

    directories: tuple[str, ...]
    size: int = 4 << 30
    free: int | None = None
    read_only: bool = False
    attached: bool = True
    inside: tuple[str, ...] = ()
    kind: str = "ext4"
    uuid: str = ""
    options: str = ""
    controller: Controller = VIRTIO_BLK
    own_driver: bool = False
    own_kind: bool = False
    layers: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """The directories as the file system itself calls them."""
        return self.inside or self.directories


@dataclass(frozen=True)
class OverlayFile:
    """A file laid over the capture image by the second initrd."""

    path: str
    content: bytes


@dataclass(frozen=True)
class Disturbance:
    """What is done to the machine from outside, once, when the capture says a line that starts so ("scan: ").

    `command` is QEMU's (QMP), such as send-key or block_set_io_throttle; writable disks are called disk0, disk1, ...
    """

    after: str
    command: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Patience:
    """How long the console may stay silent before the VM counts as hung, and how long the whole may take."""

    silence: float = 90.0
    whole: float = 600.0


@dataclass(frozen=True)
class Scenario:
    """One rehearsal. Sizes in bytes, times in seconds.

    `disks` None: one disk for each target. `image` None: built for this rehearsal; else that file, byte for byte.
    `armed`: that image is what this machine is armed with.
    `first_words` and `capture_words` are appended to the command lines of the first and of the capture kernel.
    `disturbances` are for the capture, each waits for the one before it.
    `keep_memory` saves the guest's memory when the machine hangs or its capture kernel dies.
    """

    policy: Policy
    kernel: Kernel
    panic: Panic = Panic.SYSRQ
    memory: int = 2 << 30
    crashkernel: str = "128M"
    cpus: int = 2
    disks: tuple[Disk, ...] | None = None
    image: Path | None = None
    armed: bool = False
    overlay: tuple[OverlayFile, ...] = ()
    first_words: tuple[str, ...] = ()
    capture_words: tuple[str, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()
    keep_memory: bool = False
    patience: Patience = Patience()

    def all_disks(self) -> tuple[Disk, ...]:
        """The disks of the VM that hold targets."""
        if self.disks is not None:
            return self.disks
        return tuple(Disk((path,)) for path in dict.fromkeys(target.path for target in self.policy.targets))
