"""A rehearsal as a person reads it (a live timeline, then the verdict) and as a program does (one JSON document).

Called by `cli.rehearse` and `rehearse.picture`. May import rich and of `rehearse` the modules of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from kdumpd.rehearse.advice import advice
from kdumpd.rehearse.outcome import Check, Outcome
from kdumpd.rehearse.timeline import Event, Phase

VERSION = 1  # of the JSON document; raised when a key changes its meaning
CONSOLE_LINES = 30
HEADING = f"{'total':>8} {'capture':>8} {'memory':>7}  what"

_STYLES = {
    Phase.IMAGE: "cyan",
    Phase.BOOT: "blue",
    Phase.PREPARE: "blue",
    Phase.CRASH: "bold red",
    Phase.CAPTURE_BOOT: "yellow",
    Phase.CAPTURE: "green",
    Phase.ENDED: "blue",
    Phase.JUDGE: "cyan",
}


class Teller:
    """Shows events as they happen: coloured lines and what is under way on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        console.print(Text(HEADING, style="dim"))
        if console.is_terminal:
            self._status = console.status("making disks and the capture image")
            self._status.start()

    def tell(self, event: Event) -> None:
        """The event is a line on the console."""
        self._console.print(line(event), soft_wrap=True)
        if self._status is not None:
            self._status.update(str(event.phase))

    def note(self, text: str) -> None:
        """What takes time before there is a timeline, such as a download."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Nothing is under way any more."""
        if self._status is not None:
            self._status.stop()


def line(event: Event) -> Text:
    """An event as the timeline shows it: seconds in all, seconds of the capture kernel, MiB left, what happened."""
    capture = "" if event.capture_seconds is None else f"+{event.capture_seconds:.2f} s"
    memory = "" if event.memory is None else f"{event.memory} M"
    text = Text(f"{event.seconds:6.1f} s {capture:>8} {memory:>7}  ")
    text.append(event.stage, style=_STYLES[event.phase])
    text.append(f": {event.text}")
    return text


def verdict(console: Console, outcome: Outcome) -> None:
    """The checks, the capture's notes, what a VM cannot prove, and the verdict.

    On failure the stage, the console's end, and what to try.
    """
    console.print()
    for check in outcome.checks:
        console.print(_check_line(check), soft_wrap=True)
    for note in outcome.dump.notes if outcome.dump else ():
        console.print(Text(f"  note  {note}", style="yellow"), soft_wrap=True)
    if not outcome.verified:
        _failure(console, outcome)
    console.print()
    for line in unproven(outcome):
        console.print(Text(f"not proved by a VM: {line}", style="dim"), soft_wrap=True)
    console.print()
    for line in summary(outcome):
        console.print(Text(line, style="bold green" if outcome.verified else "bold red"), soft_wrap=True)


def _check_line(check: Check) -> Text:
    text = Text("  ")
    text.append("good" if check.good else "BAD ", style="green" if check.good else "bold red")
    text.append(f"  {check.name}: {check.found}")
    text.append(f" (expected: {check.expected}; {check.how})", style="dim")
    return text


def _failure(console: Console, outcome: Outcome) -> None:
    console.print()
    console.print(Text(f"the last {CONSOLE_LINES} lines of the console:", style="bold"))
    for line in outcome.console[-CONSOLE_LINES:]:
        console.print(Text(f"  | {line}", style="dim"), soft_wrap=True)
    console.print()
    console.print(Text(f"stage: {outcome.stage}", style="bold"), soft_wrap=True)
    for line in advice(outcome):
        console.print(Text(f"try: {line}"), soft_wrap=True)


def summary(outcome: Outcome) -> Iterator[str]:
    """The verdict in a line or two."""
    saved = outcome.dump
    if outcome.verified and saved is not None and saved.dump is not None:
        record = saved.record
        size = saved.dump.stat().st_size / 1e6
        yield (
            f"VERIFIED: {outcome.scenario.kernel.release} crashed by {outcome.scenario.panic}, "
            f"{outcome.image.boot} boot of {_image(outcome)}, pages chosen by the {saved.chooser}, "
            f"dump of {size:.1f} MB at {saved.target}, "
            f"{_capture_seconds(outcome):.1f} s from the capture kernel's start to its end, "
            f"at least {int(record.get('memory', {}).get('smallest_available', 0)) >> 20} MiB available; "
            f"{outcome.seconds:.0f} s in all ({outcome.accelerator})"
        )
        return
    bad = [check.name for check in outcome.checks if not check.good]
    reason = outcome.failure or f"not good: {', '.join(bad)}"
    yield f"NOT VERIFIED: {reason}"


def _image(outcome: Outcome) -> str:
    kind = "the armed image" if outcome.scenario.armed else "an image"
    return f"{kind} (sha256 {outcome.image.sha256[:12]})" if outcome.image.sha256 else kind


def unproven(outcome: Outcome) -> tuple[str, ...]:
    """What a throwaway VM cannot show about this machine."""
    scenario = outcome.scenario
    lines: dict[str, None] = {}
    for disk in scenario.all_disks():
        paths = ", ".join(disk.directories)
        lines.update(dict.fromkeys(disk.unlike))
        if disk.own_driver:
            line = f"that this host's own {disk.controller.title} answers after a crash as QEMU's did ({paths})"
        elif not disk.unlike:
            line = (
                f"that the capture kernel drives this host's disk controller (the VM's {paths} lay on a "
                f"{disk.controller.title})"
            )
        else:
            continue
        lines[line] = None
    return (
        *lines,
        "that this host's firmware and devices survive the jump into the capture kernel without a reset",
        f"that the reservation is enough for this host's own drivers and memory (the VM had "
        f"{scenario.memory >> 20} MiB and crashkernel={scenario.crashkernel})",
    )


def _capture_seconds(outcome: Outcome) -> float:
    return max((event.capture_seconds or 0.0 for event in outcome.events), default=0.0)


def document(outcome: Outcome) -> dict[str, Any]:
    """The JSON report. Sizes in bytes (events: `memory` in MiB), times in seconds, `numbers` and `held` in pages."""
    scenario, saved = outcome.scenario, outcome.dump
    return {
        "version": VERSION,
        "verified": outcome.verified,
        "summary": " ".join(summary(outcome)),
        "kernel": scenario.kernel.release,
        "panic": str(scenario.panic),
        "memory": scenario.memory,
        "crashkernel": scenario.crashkernel,
        "accelerator": outcome.accelerator,
        "seconds": round(outcome.seconds, 2),
        "image": {
            "path": str(outcome.image.path),
            "armed": scenario.armed,
            "sha256": outcome.image.sha256,
            "boot": outcome.image.boot,
            "size": outcome.image.size,
            "unpacked": outcome.image.unpacked,
            "parts": outcome.image.parts,
        },
        "loaded": outcome.guest.loaded,
        "held": outcome.guest.held,
        "numbers": outcome.guest.numbers._asdict() if outcome.guest.numbers else None,
        "nonce": outcome.nonce,
        "panic_message": outcome.panic,
        "ending": outcome.ending,
        "failure": outcome.failure,
        "stage": outcome.stage,
        "dump": str(saved.dump) if saved else None,
        "capture": saved.record if saved else None,
        "saved": [
            {"target": one.target, "directory": str(one.directory), "files": list(one.files)} for one in outcome.saved
        ],
        "file_systems_clean": outcome.clean,
        "checks": [check._asdict() for check in outcome.checks],
        "events": [{**event._asdict(), "seconds": round(event.seconds, 2)} for event in outcome.events],
        "not_proved": list(unproven(outcome)),
        "console_tail": [] if outcome.verified else list(outcome.console[-CONSOLE_LINES:]),
        "try": [] if outcome.verified else list(advice(outcome)),
    }
