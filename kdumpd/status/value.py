"""What `status` says, as values: the verdict first. Times in seconds since 1970 (0: never), sizes in bytes.

Made by `status.assess`, shown by `status.render`. May import the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Armed or not, and in one line what proves it or what stands in the way."""

    armed: bool
    reason: str


@dataclass(frozen=True)
class Kernel:
    """The running kernel; `newer` is the newest installed one where that is another, "" else."""

    release: str
    newer: str = ""
    newer_ready: bool = False


@dataclass(frozen=True)
class Image:
    """The capture image of the running kernel. `held` is whether the reservation was seen to hold it: None where that
    cannot be seen."""

    path: str
    size: int
    unpacked: int
    built: float
    boot: str
    boot_reason: str
    scan: str
    sha256: str
    loaded: float
    held: bool | None


@dataclass(frozen=True)
class PolicyState:
    """The policy's file, and what is wrong with it, one line a problem; `last_good` is whether an older one rules."""

    path: str
    problems: tuple[str, ...] = ()
    last_good: bool = False

    @property
    def valid(self) -> bool:
        """Whether the file is what rules."""
        return not self.problems


@dataclass(frozen=True)
class Target:
    """A target: where it lies (`device` as the image finds it, `node` its name now), and its last proof.

    `ok` is None before the first proof; `why` what was wrong, or worth a look.
    """

    path: str
    device: str = ""
    node: str = ""
    fstype: str = ""
    proved: float = 0
    ok: bool | None = None
    free: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Crash:
    """A crash that was found after it: `state` verified, unread, damaged, incomplete, missing, or gone since.

    `path` is where its directory is now, None without one.
    """

    time: float
    path: str | None
    state: str
    why: str
    panic: str


@dataclass(frozen=True)
class Rehearsal:
    """The last rehearsal; `same_kernel` and `same_image` compare it with what this machine runs and is to load."""

    time: float
    verified: bool
    release: str
    panic: str
    why: str
    same_kernel: bool
    same_image: bool


@dataclass(frozen=True)
class Service:
    """What kdumpd.service said of itself last; `running` is whether its process is there."""

    running: bool
    armed: bool
    reason: str
    since: float
    busy: str


@dataclass(frozen=True)
class Status:
    """Everything. `pending` are the reasons of what apply would do; `working` is the process that holds the lock;
    `unread` what this user may not read; `crashes` how many are on record."""

    verdict: Verdict
    kernel: Kernel
    reservation: int
    loaded: bool
    policy: PolicyState
    image: Image | None = None
    targets: tuple[Target, ...] = ()
    pending: tuple[str, ...] = ()
    crash: Crash | None = None
    crashes: int = 0
    rehearsal: Rehearsal | None = None
    service: Service | None = None
    working: str = ""
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
