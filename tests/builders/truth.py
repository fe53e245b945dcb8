"""What is true of a vmcore that `big` built, in a file beside it; and programs that hold a scan or a dump against it.

    found = measured("scan", vmcore)

runs in a process of its own, which prints a line of JSON, its peak memory in it. That process imports no more than
kdumpd does and holds no bitmap, so that its memory is that of what it measures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.dumpfile.writer import WriteOptions, write_dump
from kdumpd.policy.model import Compression, CompressionKind, PageKind
from kdumpd.scan import user
from kdumpd.scan.selection import BitmapSink, Interval, PageCounts
from kdumpd.vmcore.vmcore import Vmcore

LEVEL = PageKind(31)


class Truth:
    """`areas`: the kind of each area, a byte each; of each kind bitmap 2 and counts by name; the areas of mem_map."""

    def __init__(self, vmcore: Path | str) -> None:
        told = json.loads(Path(f"{vmcore}.truth").read_text())
        self.areas = bytes.fromhex(told["areas"])
        self.bits = [bytes.fromhex(bits) for bits in told["bits"]]
        self.mem_map = tuple(Interval(*frames) for frames in told["mem_map"])
        self._counts: list[dict[str, int]] = told["counts"]

    @staticmethod
    def write(vmcore: Path | str, **told: Any) -> None:
        """Put it beside the vmcore: what `__init__` reads."""
        Path(f"{vmcore}.truth").write_text(json.dumps(told))

    @property
    def counts(self) -> dict[str, int]:
        """What PageCounts must say."""
        counts: Counter[str] = Counter()
        for kind, number in Counter(self.areas).items():
            counts.update({name: number * count for name, count in self._counts[kind].items()})
        return dict(counts)


class Judge:
    """A sink that compares bitmap 2 with the truth as it comes."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._size = len(truth.bits[0])
        self.written = 0
        self.wrong = 0  # writes

    def write(self, bits: bytes) -> None:
        taken = 0
        while taken < len(bits):
            area, at = divmod(self.written, self._size)
            expected = self._truth.bits[self._truth.areas[area]][at : at + len(bits) - taken]
            self.wrong += bits[taken : taken + len(expected)] != expected
            taken += len(expected)
            self.written += len(expected)


def peak() -> int:
    """KiB of memory that this process had at most. (getrusage counts its parent's from before exec, too.)"""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _scan(vmcore: str) -> dict[str, Any]:
    """The user engine to the end, bitmap and counts compared."""
    truth = Truth(vmcore)
    judge = Judge(truth)
    with Vmcore.open(vmcore) as core:
        start = time.perf_counter()
        counts = user.scan(core, LEVEL, (), judge)
        seconds = time.perf_counter() - start
    found = {name: counts._asdict()[name] for name in truth.counts}
    return {
        "seconds": seconds,
        "frames": judge.written * 8,
        "wrong": judge.wrong,
        "counts": found,
        "expected": truth.counts,
        "examined": counts.examined,
        "warnings": counts.warnings,
    }


def _walk(vmcore: str) -> dict[str, Any]:
    """The look for mem_map alone."""
    with Vmcore.open(vmcore) as core:
        start = time.perf_counter()
        runs = sum(1 for _ in core.mem_map())
        return {"seconds": time.perf_counter() - start, "runs": runs}


def _dump(vmcore: str) -> dict[str, Any]:
    """A whole dump, without the page structures themselves."""
    truth = Truth(vmcore)
    with Vmcore.open(vmcore) as core:

        def select(sink: BitmapSink) -> PageCounts:
            return user.scan(core, LEVEL, truth.mem_map, sink)

        options = WriteOptions(LEVEL, Compression(CompressionKind.ZSTD, 1), 1, True)
        report = write_dump(core, f"{vmcore}.dump", options, select, None)
    status = Path(f"{vmcore}.dump").stat()
    return {"pages": report.pages, "kept": report.counts.kept, "size": status.st_size, "blocks": status.st_blocks}


def _verify(vmcore: str) -> dict[str, Any]:
    """All of that dump read."""
    with Dump.open(f"{vmcore}.dump") as dump:
        found = verify(dump)
    return {"verdict": found.verdict, "pages": found.pages, "memory_pages": found.memory_pages}


_PROGRAMS = {"scan": _scan, "walk": _walk, "dump": _dump, "verify": _verify}


def measured(what: str, vmcore: Path | str, *, within: float = 900) -> dict[str, Any]:
    """What a process of its own found, with its `peak` memory in KiB."""
    command = [sys.executable, "-m", "tests.builders.truth", what, str(vmcore)]
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=within, cwd=folder)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps({**_PROGRAMS[sys.argv[1]](sys.argv[2]), "peak": peak()}))
