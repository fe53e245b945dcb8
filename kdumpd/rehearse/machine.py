"""The throwaway machine from power-on to its end: boots it, crashes it when it is ready, sees it hang.

Called by `rehearse.session`. May import of `rehearse` `vm`, `timeline`, `oops` and `scenario`, and `errors`.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import RehearsalError
from kdumpd.rehearse import oops
from kdumpd.rehearse.scenario import Disturbance, Panic, Patience
from kdumpd.rehearse.timeline import Event, Phase, Timeline
from kdumpd.rehearse.vm import Line, Machine, Vm

_TICK = 0.5
_GRACE = 10.0  # seconds from the kernel's last word to the end of QEMU
_NMI_PAUSE = 1.0  # seconds from the guest's word to the NMI: it goes to sleep meanwhile


class Life(NamedTuple):
    """How the machine lived: what its console told, and why it had to be stopped, if it had to."""

    timeline: Timeline
    failure: str
    accelerator: str


def live(
    machine: Machine,
    patience: Patience,
    tell: Callable[[Event], None],
    folder: Path,
    keep_memory: bool,
    disturbances: tuple[Disturbance, ...] = (),
) -> Life:
    """The machine has run to its end, or was stopped; `folder` gets its console log and, on a hang, its memory."""
    timeline = Timeline()
    lines: queue.Queue[Line] = queue.Queue()
    with (folder / "console.log").open("w") as log, Vm(machine, lines.put) as vm:
        watch = _Watch(vm, timeline, patience, folder, disturbances)
        while not watch.over():
            try:
                line = lines.get(timeout=_TICK)
            except queue.Empty:
                continue
            watch.heard = time.monotonic()
            log.write(f"{line.seconds:8.2f} {line.text}\n")
            log.flush()
            event = timeline.feed(line.seconds, line.text)
            if event is not None:
                tell(event)
                watch.act(event)
        if keep_memory and watch.failure and not vm.ended:
            vm.dump_memory(folder / "guest-memory.elf")
        return Life(timeline, watch.failure, "KVM" if vm.accelerated else "TCG")


class _Watch:
    """Decides when the machine's life is over, and does from outside what the guest asks for."""

    def __init__(
        self, vm: Vm, timeline: Timeline, patience: Patience, folder: Path, disturbances: tuple[Disturbance, ...]
    ) -> None:
        self._vm = vm
        self._timeline = timeline
        self._patience = patience
        self._folder = folder
        self._disturbances = list(disturbances)
        self._started = self.heard = time.monotonic()
        self.failure = ""

    def over(self) -> bool:
        """Whether there is nothing more to wait for; `failure` then says what went wrong, if something did."""
        silent = time.monotonic() - self.heard
        timeline = self._timeline
        if self._vm.ended and silent > _TICK:
            if timeline.phase is not Phase.ENDED and not self.failure:
                self.failure = f"the machine ended without a word ({self._vm.end_reason()}) in: {timeline.stage}"
        elif (timeline.phase is Phase.ENDED and silent > _GRACE) or timeline.ending == "System halted":
            return True
        elif silent > self._patience.silence:
            self.failure = f"the console fell silent for {silent:.0f} s in: {timeline.stage}"
        elif time.monotonic() - self._started > self._patience.whole:
            self.failure = f"not at its end after {self._patience.whole:.0f} s, in: {timeline.stage}"
        return bool(self.failure) or (self._vm.ended and silent > _TICK)

    def act(self, event: Event) -> None:
        """The crash that needs a hand from outside gets it."""
        if event.stage == "failed":
            self.failure = f"the first kernel could not be made ready: {event.text}"
        if event.phase is Phase.CAPTURE:
            self._disturb(event)
        if event.stage != "crashing":
            return
        said = self._timeline.guest["crashing"]
        try:
            if said["panic"] == Panic.NMI:
                time.sleep(_NMI_PAUSE)
                self._vm.command("inject-nmi")
            elif said["panic"] == Panic.OOPS:
                stub = self._folder / "gdb"
                start: dict[str, object] = {"command-line": f"gdbserver unix:{stub},server=on,wait=off"}
                self._vm.command("human-monitor-command", 60, **start)
                oops.jump_to_zero(stub, said["address"], said["machine"])
                stub.unlink(missing_ok=True)
        except RehearsalError as error:
            self.failure = f"the crash could not be made: {error}"

    def _disturb(self, event: Event) -> None:
        """The disturbance that waited for this event is done."""
        if self._disturbances and f"{event.stage}: {event.text}".startswith(self._disturbances[0].after):
            next_one = self._disturbances.pop(0)
            try:
                self._vm.command(next_one.command, 60, **next_one.arguments)
            except RehearsalError as error:
                self.failure = f"the capture could not be disturbed: {error}"
