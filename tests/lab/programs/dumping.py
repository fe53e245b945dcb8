"""This /proc/vmcore dumped whole by each engine in turn, or only scanned: how long, and how much memory it took.

`ways` maps a name to {"engine", "strategy", "page_size"}; with "scan" nothing is written, with "makedumpfile" its
passes are counted instead. `compression` is none where time is short. Each way has a process of its own, whose peak is
its own, and this one watches what memory is left. Dumps lie in /out under the names of their ways.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kdumpd.capture.save import SaveOptions, as_json, save_dump
from kdumpd.policy.model import Compression, CompressionKind, EngineChoice, MappingPageSize, MappingStrategy, PageKind
from kdumpd.scan.engine import ScanOptions
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.programs.timings import kibibytes, ours, theirs

LOOK = 0.1  # seconds between two looks at the memory that is left


def dumped(name: str, way: dict[str, Any], level: int, compression: Compression) -> dict[str, Any]:
    """A dump; what kdumpd.json says of it."""
    scan = ScanOptions(
        EngineChoice(way["engine"]),
        MappingStrategy(way.get("strategy", "auto")),
        MappingPageSize(way.get("page_size", "auto")),
    )
    with Vmcore.open("/proc/vmcore") as core:
        saved = save_dump(core, f"/out/{name}", SaveOptions(PageKind(level), compression, scan=scan))
    return as_json(saved) | {"peak": kibibytes("/proc/self/status", "VmHWM")}


def done(name: str, way: dict[str, Any], level: int, compression: Compression) -> dict[str, Any]:
    """One way, as it says."""
    if way.get("makedumpfile"):
        return theirs(level)
    if way.get("scan"):
        return ours(way, level, hashed=False)
    return dumped(name, way, level, compression)


def watched(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns, done by a child; with MemAvailable before it and at its smallest, in KiB."""
    before = least = kibibytes("/proc/meminfo", "MemAvailable")
    result = Path("/run/result.json")
    child = os.fork()
    if not child:
        status = 1
        try:
            result.write_text(json.dumps(work()))
            status = 0
        finally:
            os._exit(status)
    while not os.waitpid(child, os.WNOHANG)[0]:
        least = min(least, kibibytes("/proc/meminfo", "MemAvailable"))
        time.sleep(LOOK)
    found: dict[str, Any] = json.loads(result.read_bytes())
    return found | {"available": [before, least]}


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """What became of each way, by its name."""
    level = arguments.get("level", 31)
    compression = Compression(CompressionKind(arguments.get("compression", "zstd")), 1)
    results: dict[str, Any] = {}
    for name, way in arguments["ways"].items():
        started = time.monotonic()
        results[name] = watched(partial(done, name, way, level, compression))
        print(f"LAB: {name}: {time.monotonic() - started:.2f} s, {results[name]['available']} KiB", flush=True)
    return results
