"""The whole writer: `kdumpd dump` against `makedumpfile -z -d 31`, as processes, until the dump is on the disk.

makedumpfile does not sync what it wrote and kdumpd does, so the peer's file is synced here, inside its time. Wall time
is what counts, but it needs idle processors; processor time is beside it for machines that are not. The makedumpfile is
Debian 13's 1.7.6 with one thread, since its threads before 1.7.8 corrupted dumps (65bf4c9) and were slower.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.rounds import Taken, in_turn, table
from kdumpd.rehearse.packages import CACHE
from tests.lab import peers
from tests.lab.crash import crash
from tests.lab.recipes import RECIPES

# (vmcore, dump level, rounds): a usual dump takes less than a second, of which Python's start is a tenth and more; at
# level 1 the same machine gives ten times the pages, and the start no longer counts.
CASES = (("6.1", 31, 9), ("6.1-busy", 31, 9), ("6.12", 31, 9), ("6.1-busy", 1, 5))
PEER = "makedumpfile -z"
KDUMPD = (sys.executable, "-m", "kdumpd", "dump", "--compression", "zstd")


class Way:
    """One way to write a dump of `vmcore` to a file that is removed again; remembers processor time and size."""

    def __init__(self, vmcore: Path, output: Path, command: Callable[[str, str], tuple[str, ...]]) -> None:
        self._output = output
        self._command = command(str(vmcore), str(output))
        self.processor_seconds: list[float] = []
        self.size = 0

    def __call__(self) -> float:
        self._output.unlink(missing_ok=True)
        quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
        start = time.perf_counter()
        pid = os.posix_spawn(self._command[0], self._command, os.environ, file_actions=quiet)
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(self._command)}: status {os.waitstatus_to_exitcode(status)}")
        with self._output.open("rb") as file:
            os.fdatasync(file.fileno())
        seconds = time.perf_counter() - start
        self.processor_seconds.append(usage.ru_utime + usage.ru_stime)
        self.size = self._output.stat().st_size
        self._output.unlink()
        return seconds


def ways(vmcore: Path, level: int, folder: Path) -> dict[str, Way]:
    """kdumpd with one and two workers, and makedumpfile."""
    peer = peers.makedumpfile(peers.DEBIAN_13)
    output = folder / "dump"

    def ours(jobs: int) -> Way:
        options = ("--level", str(level), "--jobs", str(jobs))
        return Way(vmcore, output, lambda source, to: (*KDUMPD, *options, source, to))

    theirs = Way(vmcore, output, lambda source, to: (*peer.argv, "-z", "-d", str(level), source, to))
    return {"kdumpd dump --jobs 1": ours(1), "kdumpd dump --jobs 2": ours(2), PEER: theirs}


def compare(name: str, level: int, rounds: int) -> str:
    """Markdown: wall time, processor time (children and all) and the size of the dump."""
    source = crash(RECIPES[name], say=print)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=CACHE))
    try:
        by_name = ways(source.vmcore, level, folder)
        taken = in_turn(by_name, rounds)
    finally:
        shutil.rmtree(folder)
    processor = {way: Taken(tuple(by_name[way].processor_seconds[-rounds:])) for way in by_name}
    title = f"Whole dump of {name} ({source.kernel.release}) at level {level}"
    sizes = "".join(f"- {way}: {by_name[way].size:,} bytes\n" for way in by_name)
    return "\n".join(
        (table(f"{title}, wall time", taken, PEER), table(f"{title}, processor time", processor, PEER), sizes)
    )


def main() -> None:
    """Every case."""
    for name, level, rounds in CASES:
        print(compare(name, level, rounds), flush=True)
