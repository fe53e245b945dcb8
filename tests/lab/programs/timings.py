"""Each way of scanning this /proc/vmcore in turn: seconds, counts, what was mapped, and what tells bitmap 2 apart.

`ways` maps a name to {"engine", "strategy", "page_size"}, or to {"makedumpfile": true}; `rounds` of them are made in
turn (of makedumpfile no more than the "rounds" that its way may have), after one of ours that compares the bitmaps.
`online` is how many processors scan: the others are taken offline.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

from kdumpd.policy.model import EngineChoice, MappingPageSize, MappingStrategy, PageKind
from kdumpd.scan.device import Device
from kdumpd.scan.engine import ScanOptions, select
from kdumpd.vmcore.vmcore import Vmcore

STEP = re.compile(r"STEP \[Excluding unnecessary pages\] : ([0-9.]+) seconds")
CYCLES = re.compile(r"cycl", re.IGNORECASE)


class Sink:
    """Takes bitmap 2: keeps what tells it from another where that is asked for, and how long it is."""

    def __init__(self, *, hashed: bool) -> None:
        self.crc = 0
        self.bytes = 0
        self._hashed = hashed

    def write(self, bits: bytes) -> None:
        self.bytes += len(bits)
        if self._hashed:
            self.crc = zlib.crc32(bits, self.crc)


class Timed(Device):
    """The module's device, which knows how many seconds were spent in the module."""

    seconds = 0.0

    def _ask(self, number: int, request: bytes) -> bytearray:
        started = time.monotonic()
        try:
            return super()._ask(number, request)
        finally:
            self.seconds += time.monotonic() - started


def kibibytes(path: str, name: str) -> int:
    """A line `name: N kB` of a file of /proc."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def ours(way: dict[str, Any], level: int, *, hashed: bool) -> dict[str, Any]:
    """One scan by this way; `hashed` takes time of its own."""
    options = ScanOptions(
        EngineChoice(way["engine"]),
        MappingStrategy(way.get("strategy", "auto")),
        MappingPageSize(way.get("page_size", "auto")),
    )
    sink = Sink(hashed=hashed)
    before = least = kibibytes("/proc/meminfo", "MemFree")

    def watch(done: int, total: int) -> None:
        nonlocal least
        least = min(least, kibibytes("/proc/meminfo", "MemFree"))

    devices: list[Timed] = []

    def opened(core: Vmcore, path: str) -> Timed:
        devices.append(Timed.open(path))
        return devices[0]

    with Vmcore.open("/proc/vmcore") as core:
        started = time.monotonic()
        selected = select(core, PageKind(level), (), sink, watch if way.get("watch") else None, options, opened=opened)
        seconds = time.monotonic() - started
        counts, report = selected.counts, selected.report
        if selected.pages is not None:
            selected.pages.close()
    return {
        "seconds": seconds,
        "module": sum(device.seconds for device in devices),
        "crc": sink.crc,
        "bytes": sink.bytes,
        "counts": counts._asdict(),
        "report": {**report._asdict(), "leaves": list(report.leaves)},
        "free": [before, least, kibibytes("/proc/meminfo", "MemFree")],
        "highest": kibibytes("/proc/self/status", "VmHWM"),
    }


def theirs(level: int) -> dict[str, Any]:
    """makedumpfile's passes over the page structures; nothing is written."""
    started = time.monotonic()
    command = [
        "/bin/makedumpfile",
        "--dry-run",
        "--message-level",
        "31",
        "-d",
        str(level),
        "-l",
        "/proc/vmcore",
        "/none",
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = done.stdout + done.stderr
    steps = [float(seconds) for seconds in STEP.findall(said)]
    if not steps:
        raise RuntimeError(f"makedumpfile: {said[-2000:]}")
    return {
        "seconds": sum(steps),
        "passes": len(steps),
        "all": time.monotonic() - started,
        "cycles": [line for line in said.splitlines() if CYCLES.search(line)][:4],
    }


def use_processors(count: int) -> None:
    """All processors but the first `count` are offline."""
    for number in range(1, os.cpu_count() or 1):
        switch = Path(f"/sys/devices/system/cpu/cpu{number}/online")
        if switch.exists():
            switch.write_text("1" if number < count else "0")


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """The rounds of each way by its name, for each number of processors in `online`; ours have one more, the first."""
    level = arguments.get("level", 31)
    taken: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for online in arguments.get("online", [1]):
        use_processors(online)
        here = taken[str(online)] = {name: [] for name in arguments["ways"]}
        # Once to compare the bitmaps, then the rounds that count.
        for number in range(1 + arguments.get("rounds", 1)):
            for name, way in arguments["ways"].items():
                if not way.get("makedumpfile"):
                    here[name].append(ours(way, level, hashed=not number))
                elif 0 < number <= way.get("rounds", number):
                    here[name].append(theirs(level))
                else:
                    continue
                print(f"LAB: {online} processors, {name}: {here[name][-1]['seconds']:.4f} s", flush=True)
    return {"taken": taken}
