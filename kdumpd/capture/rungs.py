"""What may choose a dump's pages, the most careful last, and which failure leads from one to the next. Pure.

    auto or kernel ─► user ─► unfiltered, if it fits ─► (no dump here: the log alone, the next target)

Called by `capture.dumping`. May import `policy.model`, `capture.door`.
"""

from __future__ import annotations

import enum

from kdumpd.capture.door import Failure
from kdumpd.policy.model import EngineChoice


class Rung(enum.StrEnum):
    """What chooses the pages: by EngineChoice, or nothing at all."""

    AUTO = "auto"
    KERNEL = "kernel"
    USER = "user"
    UNFILTERED = "unfiltered"


class Phase(enum.IntEnum):
    """How far a dump has come; GATHERING is writing pages that the page-scan module hands out."""

    SCANNING = 0
    WRITING = 1
    GATHERING = 2


#: What each rung is to the one before it, on the console.
INSTEAD = {
    Rung.USER: "the user engine chooses the pages instead",
    Rung.UNFILTERED: "the pages could not be chosen: an unfiltered dump is tried",
}

# A signal, or what would stop a dump of other pages as well.
_FINAL = ("stopped", "DumpError", "TargetError", "OSError")
_KILLED = ("killed", "WorkerError")


def rungs(engine: EngineChoice, module: bool) -> tuple[Rung, ...]:
    """The rungs under this policy, the first to be tried first; `module`: the page-scan module is there."""
    if engine is EngineChoice.USER:
        return (Rung.USER, Rung.UNFILTERED)
    if engine is EngineChoice.AUTO and not module:
        return (Rung.AUTO, Rung.UNFILTERED)  # that is the user engine already
    return (Rung(engine), Rung.USER, Rung.UNFILTERED)


def scan_share(place: int, of: int) -> float:
    """The part of a dump's time by which this rung (0 is the first) must have scanned: what follows needs the rest."""
    return (place + 1) / of


def leads_on(failure: Failure, phase: Phase) -> bool:
    """Whether the next rung may succeed where one failed in that phase."""
    if phase is Phase.GATHERING:
        return failure.kind in _KILLED  # the module may be what killed it
    return phase is Phase.SCANNING and failure.kind not in _FINAL
