"""The story of a rehearsal, told by the VM's console: which stage was reached when, and what was said.

Pure: console lines go in with their seconds, events come out. Fed by `rehearse.session`. May import
`capture.console` and `rehearse.guest`'s line prefix.
"""

from __future__ import annotations

import enum
import json
import re
from typing import Any, NamedTuple

from kdumpd.capture import console

GUEST_PREFIX = "kdumpd-guest: "


class Phase(enum.StrEnum):
    """Where the machine is; each follows the one before."""

    IMAGE = "image"
    BOOT = "first kernel boots"
    PREPARE = "first kernel prepares"
    CRASH = "crash"
    CAPTURE_BOOT = "capture kernel boots"
    CAPTURE = "capture"
    ENDED = "the machine ends"
    JUDGE = "judgement"


class Event(NamedTuple):
    """Something worth a line.

    `seconds` since the rehearsal started; where the capture said so, `capture_seconds` since its kernel started and
    `memory` in MiB available.
    """

    seconds: float
    phase: Phase
    stage: str
    text: str
    capture_seconds: float | None = None
    memory: int | None = None


# drivers: kernel/panic.c, arch/x86/mm/fault.c, kernel/reboot.c
_PANIC = re.compile(r"(Kernel panic - not syncing: .*|BUG: (?:unable to handle|kernel NULL pointer).*|Oops: .*)")
_ENDING = re.compile(r"reboot: (Restarting system|Power down|System halted|Power off not available.*)")
_FIRST_LINE = re.compile(r"\] Linux version (\S+)|^Linux version (\S+)")
_PRINTK = re.compile(r"^\[\s*(\d+\.\d+)\](?:\[[^\]]*\])? ?")


class Timeline:
    """What has been learnt from the console so far.

    `phase`; `events`; `guest` what the first kernel's program said last in each of its stages; `panic` the first line
    that says why the first kernel died; `capture_panic` the same of the capture kernel; `ending` how the machine went
    off, as the kernel called it.
    """

    def __init__(self) -> None:
        self.phase = Phase.BOOT
        self.events: list[Event] = []
        self.guest: dict[str, dict[str, Any]] = {}
        self.panic = ""
        self.capture_panic = ""
        self.ending = ""
        self._kernels = 0

    def feed(self, seconds: float, line: str) -> Event | None:
        """The event that this console line is, if it is one."""
        event = self._event(seconds, line)
        if event is not None:
            self.phase = event.phase
            self.events.append(event)
        return event

    @property
    def stage(self) -> str:
        """The stage reached last, in words."""
        return f"{self.phase} ({self.events[-1].stage}: {self.events[-1].text})" if self.events else str(self.phase)

    def _event(self, seconds: float, line: str) -> Event | None:
        if GUEST_PREFIX in line:
            return self._guest_event(seconds, line.partition(GUEST_PREFIX)[2])
        step = console.parse(line)
        if step is not None:
            return Event(seconds, Phase.CAPTURE, step.stage, step.text, step.seconds, step.memory)
        if _FIRST_LINE.search(line):
            return self._kernel_event(seconds, line)
        ending = _ENDING.search(line)
        if ending:
            self.ending = ending[1]
            return Event(seconds, Phase.ENDED, "end", ending[1], self._kernel_time(line))
        panic = _PANIC.search(line)
        if panic:
            return self._panic_event(seconds, line, panic[1].strip())
        return None

    def _kernel_event(self, seconds: float, line: str) -> Event | None:
        self._kernels += 1
        release = line.partition("Linux version ")[2].split(" ")[0]
        if self._kernels == 1:
            return Event(seconds, Phase.BOOT, "kernel", f"Linux {release}")
        return Event(seconds, Phase.CAPTURE_BOOT, "kernel", f"capture kernel: Linux {release}", 0.0)

    def _panic_event(self, seconds: float, line: str, text: str) -> Event | None:
        if self._kernels < 2:
            first = not self.panic
            self.panic = self.panic or text
            return Event(seconds, Phase.CRASH, "panic", text) if first else None
        first = not self.capture_panic
        self.capture_panic = self.capture_panic or text
        return Event(seconds, self.phase, "capture kernel panic", text, self._kernel_time(line)) if first else None

    def _guest_event(self, seconds: float, text: str) -> Event | None:
        try:
            said = json.loads(text)
            stage = str(said.pop("stage"))
        except (ValueError, KeyError, AttributeError):
            return None
        self.guest[stage] = said
        phase = Phase.CRASH if stage == "crashing" else Phase.PREPARE
        return Event(seconds, phase, stage, _guest_text(stage, said))

    def _kernel_time(self, line: str) -> float | None:
        found = _PRINTK.match(line)
        return float(found[1]) if found and self._kernels > 1 else None


def _guest_text(stage: str, said: dict[str, Any]) -> str:
    match stage:
        case "up":
            return f"the guest program runs, {said.get('seconds', 0):.1f} s after its kernel started"
        case "disks":
            return f"{said.get('count', 0)} target disk(s) mounted and in use"
        case "loaded":
            return f"crash kernel loaded: {said.get('how', '')}"
        case "filled":
            held = said.get("held", {})
            return ", ".join(f"{kind} {pages * 4096 >> 20} MiB" for kind, pages in held.items())
        case "crashing":
            return f"crashing it: {said.get('panic', '')}"
        case _:
            return str(said.get("text", ""))
