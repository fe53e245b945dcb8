"""The typed policy: frozen values with units parsed once (bytes, seconds, flags).

Built from a validated document by `policy.load`, from canonical JSON (what the capture image carries) by
`policy.compiled`. May import `errors` alone: the capture kernel imports this module.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class PageKind(enum.IntFlag):
    """The kinds of page a dump level leaves out; the values are makedumpfile's (makedumpfile.h, DL_EXCLUDE_*)."""

    ZERO = 1
    CACHE = 2
    CACHE_PRIVATE = 4
    USER = 8
    FREE = 16


class CompressionKind(enum.StrEnum):
    ZSTD = "zstd"
    ZLIB = "zlib"
    NONE = "none"


class Compression(NamedTuple):
    """How pages are compressed; `level` is the library's own scale."""

    kind: CompressionKind
    level: int


class Action(enum.StrEnum):
    """What the capture kernel does next; the first two only in `on_failure`."""

    NEXT_TARGET = "next-target"
    DMESG_ONLY = "dmesg-only"
    REBOOT = "reboot"
    POWEROFF = "poweroff"
    HALT = "halt"


class Boot(enum.StrEnum):
    """What boots the capture image (DESIGN.md, two ways through the image)."""

    AUTO = "auto"
    DIRECT = "direct"
    DRACUT = "dracut"


class HintKind(enum.StrEnum):
    """A kind of memmap= hint: `nn@ss`, `nn#ss`, `nn$ss` of the x86 kernel parameter."""

    RAM = "ram"
    ACPI = "acpi"
    RESERVED = "reserved"


@dataclass(frozen=True)
class DumpPolicy:
    """What is written; `jobs` None means automatic."""

    level: PageKind
    compression: Compression
    dmesg: bool
    jobs: int | None


@dataclass(frozen=True)
class LocalTarget:
    """A directory on a local file system of the running system."""

    path: str


@dataclass(frozen=True)
class Retention:
    """`min_free`: bytes that a dump must leave free on the target's file system."""

    min_free: int


@dataclass(frozen=True)
class CaptureKernel:
    """How the capture kernel is booted; `cpus` None means automatic; append and remove edit its command line."""

    boot: Boot
    cpus: int | None
    append: tuple[str, ...]
    remove: tuple[str, ...]


@dataclass(frozen=True)
class MemmapHint:
    """One memory hint: either `range` (a name in /proc/iomem) or `start` and `size` in bytes."""

    kind: HintKind
    range: str | None
    start: int | None
    size: int | None


@dataclass(frozen=True)
class Policy:
    """A whole policy; `time_budget` in seconds for everything the capture kernel does."""

    dump: DumpPolicy
    targets: tuple[LocalTarget, ...]
    on_failure: tuple[Action, ...]
    on_success: Action
    time_budget: int
    capture_kernel: CaptureKernel
    memmap: tuple[MemmapHint, ...]
    retention: Retention
