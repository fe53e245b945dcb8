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
    """What boots the capture image (docs/architecture.md, two ways through the image)."""

    AUTO = "auto"
    DIRECT = "direct"
    DRACUT = "dracut"


class EngineChoice(enum.StrEnum):
    """What may scan the page structures: auto is the kernel's module first, the user engine where that fails."""

    AUTO = "auto"
    KERNEL = "kernel"
    USER = "user"


class MappingStrategy(enum.StrEnum):
    """How the page-scan module maps old memory (kmod/kdumpd_scan.h, enum kdumpd_strategy)."""

    AUTO = "auto"
    LINEAR = "linear"
    CHUNK = "chunk"
    PAGE = "page"


class MappingPageSize(enum.StrEnum):
    """The largest page that the module maps with."""

    AUTO = "auto"
    GIB_1 = "1G"
    MIB_2 = "2M"
    KIB_4 = "4K"


class Early(enum.StrEnum):
    """Who loads the crash kernel at boot before kdumpd.service (docs/early.md)."""

    AUTO = "auto"
    SERVICE = "service"
    INITRAMFS = "initramfs"


class HintKind(enum.StrEnum):
    """A kind of memory hint: `nn@ss`, `nn#ss`, `nn$ss` of x86's memmap=, and `map` of the page-scan module."""

    RAM = "ram"
    ACPI = "acpi"
    RESERVED = "reserved"
    MAP = "map"


@dataclass(frozen=True)
class DumpPolicy:
    """What is written; `jobs` None means automatic."""

    level: PageKind
    compression: Compression
    dmesg: bool
    jobs: int | None


@dataclass(frozen=True)
class ScanPolicy:
    """Who finds the pages that are left out."""

    engine: EngineChoice


@dataclass(frozen=True)
class MappingPolicy:
    """How the kernel engine maps old memory."""

    strategy: MappingStrategy
    page_size: MappingPageSize


@dataclass(frozen=True)
class LocalTarget:
    """A directory on a local file system of the running system."""

    path: str


@dataclass(frozen=True)
class Retention:
    """Which dumps stay on a target: how many, and their bytes together (None: no limit).

    `min_free`: bytes that must be free on its file system, which a new dump leaves and for which old ones go.
    """

    keep: int | None
    max_size: int | None
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
    scan: ScanPolicy
    mapping: MappingPolicy
    targets: tuple[LocalTarget, ...]
    on_failure: tuple[Action, ...]
    on_success: Action
    time_budget: int
    capture_kernel: CaptureKernel
    early: Early
    memmap: tuple[MemmapHint, ...]
    retention: Retention
