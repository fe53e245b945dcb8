"""Pages of this /proc/vmcore by GATHER, by mmap and by read: pages a second, each over the same pages in turn.

`levels` are the dump levels that choose the pages: few and scattered at 31, long runs at 1. `most` bounds their number.
Each page comes with the word whether it is all zero, as the writer wants it; and once more by the calls alone, with
nothing made of what they give, though GATHER has looked for zeros by then.
"""

from __future__ import annotations

import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from kdumpd.dumpfile.bitmap import Run
from kdumpd.dumpfile.pages import CHUNK_BYTES, CHUNK_PAGES, VmcorePages
from kdumpd.policy.model import EngineChoice, MappingStrategy, PageKind
from kdumpd.scan.device import PATH, Device
from kdumpd.scan.engine import ScanOptions, select
from kdumpd.scan.gather import SPAN
from kdumpd.scan.mapping import Machine, linear_ranges
from kdumpd.scan.requests import Strategy
from kdumpd.vmcore.memory import Memory
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.programs.engines import Bits, chunks

BY_MODULE = ScanOptions(EngineChoice.KERNEL, MappingStrategy.LINEAR)


class ReadPages:
    """Pages by read, a run at once."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._zero = bytes(memory.page_size)

    def pages(self, runs: list[Run]) -> list[memoryview]:
        """As PageSource."""
        found: list[memoryview] = []
        size = self._memory.page_size
        for first, count in runs:
            content = self._memory.read(first * size, count * size)
            view = memoryview(content)
            for at in range(0, len(content), size):
                found.append(view[:0] if content.startswith(self._zero, at) else view[at : at + size])
        return found


class Alone:
    """The three calls, with nothing around them."""

    def __init__(self, memory: Memory, device: Device) -> None:
        self._memory = memory
        self._device = device
        ranges = linear_ranges(memory.stored_ranges, (), Machine.here().own)
        self._map = device.map(ranges, Strategy.LINEAR, 30).id
        self._buffer = array("B", b"\0") * CHUNK_BYTES
        self._zero = array("B", b"\0") * (CHUNK_PAGES // 8)

    def gather(self, portion: list[Run]) -> None:
        """One call a portion, where it is not too far spread; the bitmap has to be made for it."""
        base = portion[0][0]
        wanted = 0
        for first, count in portion:
            wanted |= ((1 << count) - 1) << (first - base)
        bitmap = array("B", wanted.to_bytes(-(-wanted.bit_length() // 8), "little"))
        self._device.gather(self._map, self._memory.page_size, base, bitmap, self._buffer, 0, self._zero)

    def mmap(self, portion: list[Run]) -> None:
        """A copy of each run."""
        size = self._memory.page_size
        for first, count in portion:
            self._memory.view(first * size, count * size)

    def read(self, portion: list[Run]) -> None:
        """A read for each run."""
        size = self._memory.page_size
        for first, count in portion:
            self._memory.read(first * size, count * size)


def timed(take: Callable[[list[Run]], object], portions: list[list[Run]]) -> float:
    """Seconds for all of them."""
    started = time.monotonic()
    for portion in portions:
        take(portion)
    return time.monotonic() - started


def some(content: bytes, most: int) -> Iterator[list[Run]]:
    """Portions of 256 pages, `most` pages in all, from all over memory; none that takes more than one call."""
    portions = [part for part in chunks(content) if sum(part[-1]) - part[0][0] <= SPAN]
    step = max(1, len(portions) * 256 // most)
    yield from islice(portions, 0, None, step)


def compared(core: Vmcore, level: int, most: int, rounds: int) -> dict[str, Any]:
    """The number of pages and of runs, and the median seconds of each way."""
    bits = Bits()
    selected = select(core, PageKind(level), (), bits, None, BY_MODULE)
    if selected.pages is None:
        raise RuntimeError(f"memory is not mapped linearly: {selected.report.why}")
    portions = list(some(bytes(bits.content), most))
    device = Device.open(PATH)
    alone = Alone(core.memory, device)
    ways: dict[str, Callable[[list[Run]], object]] = {
        "GATHER": selected.pages.pages,
        "mmap": VmcorePages(core.memory).pages,
        "read": ReadPages(core.memory).pages,
        "GATHER alone": alone.gather,
        "mmap alone": alone.mmap,
        "read alone": alone.read,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, take in ways.items():
            taken[name].append(timed(take, portions))
    device.close()
    selected.pages.close()
    return {
        "pages": sum(count for portion in portions for _, count in portion),
        "runs": sum(map(len, portions)),
        "seconds": {name: statistics.median(seconds) for name, seconds in taken.items()},
    }


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """Each level's comparison."""
    results: dict[str, Any] = {}
    with Vmcore.open("/proc/vmcore") as core:
        for level in arguments["levels"]:
            results[str(level)] = compared(core, level, arguments["most"], arguments.get("rounds", 5))
            print(f"LAB: level {level}: {results[str(level)]}", flush=True)
    return results
