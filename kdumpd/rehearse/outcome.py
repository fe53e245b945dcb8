"""What came of a rehearsal, as plain values: the story, what was saved, what was checked, and the verdict.

Made by `rehearse.session`, shown by `rehearse.report`, asserted on by tests. May import of `rehearse` `scenario`,
`timeline` and `numbers`; `policy.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kdumpd.policy.model import EngineChoice
from kdumpd.rehearse.numbers import Numbers
from kdumpd.rehearse.scenario import Scenario
from kdumpd.rehearse.timeline import Event


class Check(NamedTuple):
    """One thing that was judged: `expected` and `found` as a person reads them, `how` says what was compared."""

    name: str
    good: bool
    expected: str
    found: str
    how: str


class Saved(NamedTuple):
    """A crash's directory, taken out of a target's disk: `target` is the policy's path, `record` is kdumpd.json."""

    target: str
    directory: Path
    files: tuple[str, ...]
    record: dict[str, Any]

    @property
    def dump(self) -> Path | None:
        """The dump, where it is complete."""
        return self.directory / "vmcore" if "vmcore" in self.files else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the capture found worth knowing and cost nothing."""
        notes = self.record.get("notes")
        return tuple(str(note) for note in notes) if isinstance(notes, list) else ()

    @property
    def chooser(self) -> str:
        """What chose the pages, in a few words; "" where the record does not say."""
        dump, scan = self.record.get("dump"), self.record.get("scan")
        if not isinstance(scan, dict):
            return str(dump.get("engine", "")) if isinstance(dump, dict) else ""
        if scan.get("engine") != EngineChoice.KERNEL:
            return f"{scan.get('engine', '')} engine"
        return f"kernel engine, {scan.get('strategy', '')} {scan.get('page_size', '')}"

    def text(self, name: str) -> str:
        """A file's text, empty where there is none."""
        return (self.directory / name).read_text(errors="replace") if name in self.files else ""


class Image(NamedTuple):
    """The capture image that was rehearsed; sizes in bytes, `parts` of the unpacked one, `sha256` of the packed one."""

    path: Path
    boot: str
    size: int
    unpacked: int
    parts: dict[str, int]
    sha256: str = ""


class Guest(NamedTuple):
    """What the first kernel told: its command line's outcome of kexec, pages held by kind, and its own numbers.

    `image_sha256` is of the image within what it loaded.
    """

    release: str
    loaded: str
    held: dict[str, int]
    numbers: Numbers | None
    image_sha256: str = ""


@dataclass(frozen=True)
class Outcome:
    """A rehearsal that is over. Times in seconds.

    `ending` is how the machine went off ("Restarting system"), empty where it had to be stopped; `failure` why the
    rehearsal came to no end of its own (a hang, a kernel that died), empty where it did.
    """

    scenario: Scenario
    image: Image
    guest: Guest
    nonce: str
    events: tuple[Event, ...]
    console: tuple[str, ...]
    panic: str
    capture_panic: str
    ending: str
    failure: str
    stage: str
    saved: tuple[Saved, ...]
    clean: dict[str, bool]
    checks: tuple[Check, ...]
    seconds: float
    accelerator: str

    @property
    def dump(self) -> Saved | None:
        """The directory with a complete dump, of the first target that has one."""
        return next((saved for saved in self.saved if saved.dump), None)

    @property
    def verified(self) -> bool:
        """Whether a dump was saved and everything that was judged is good."""
        return bool(self.checks) and not self.failure and all(check.good for check in self.checks)
