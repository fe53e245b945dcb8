"""Pages of this /proc/vmcore by GATHER, by mmap and by read: pages a second, each over the same pages in turn.

`levels` are the dump levels that choose the pages: few and scattered at 31, long runs at 1. `most` bounds their number.
Each page comes with the word whether it is all zero, as the writer wants it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from kdumpd.dumpfile.bitmap import Run
from kdumpd.dumpfile.pages import PageSource, VmcorePages
from kdumpd.policy.model import EngineChoice, MappingStrategy, PageKind
from kdumpd.scan.engine import ScanOptions, select
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


def timed(source: PageSource, portions: list[list[Run]]) -> float:
    """Seconds for all of them."""
    started = time.monotonic()
    for portion in portions:
        source.pages(portion)
    return time.monotonic() - started


def some(content: bytes, most: int) -> Iterator[list[Run]]:
    """Portions of 256 pages, `most` pages in all, from all over memory."""
    portions = list(chunks(content))
    step = max(1, len(portions) * 256 // most)
    yield from islice(portions, 0, None, step)


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """For each level the number of pages and of runs, and the median seconds of each source."""
    results: dict[str, Any] = {}
    with Vmcore.open("/proc/vmcore") as core:
        for level in arguments["levels"]:
            bits = Bits()
            selected = select(core, PageKind(level), (), bits, None, BY_MODULE)
            if selected.pages is None:
                raise RuntimeError(f"memory is not mapped linearly: {selected.report.why}")
            portions = list(some(bytes(bits.content), arguments["most"]))
            sources: dict[str, PageSource] = {
                "GATHER": selected.pages,
                "mmap": VmcorePages(core.memory),
                "read": ReadPages(core.memory),
            }
            taken: dict[str, list[float]] = {name: [] for name in sources}
            for _ in range(arguments.get("rounds", 5)):
                for name, source in sources.items():
                    taken[name].append(timed(source, portions))
            selected.pages.close()
            results[str(level)] = {
                "pages": sum(count for portion in portions for _, count in portion),
                "runs": sum(map(len, portions)),
                "seconds": {name: statistics.median(seconds) for name, seconds in taken.items()},
            }
            print(f"LAB: level {level}: {results[str(level)]}", flush=True)
    return results
