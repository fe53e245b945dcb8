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
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.rounds import Taken, in_turn, table
from kdumpd.rehearse.packages import CACHE
from tests.lab import peers
from tests.lab.crash import crash
from tests.lab.recipes import RECIPES

VMCORES = ("6.1", "6.1-busy", "6.12")
ROUNDS = 7
YARDSTICK = "makedumpfile -z -d 31"
KDUMPD = (sys.executable, "-m", "kdumpd", "dump", "--level", "31", "--compression", "zstd")


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


def ways(vmcore: Path, folder: Path) -> dict[str, Way]:
    """kdumpd with one and two workers, and makedumpfile."""
    peer = peers.makedumpfile(peers.DEBIAN_13)
    output = folder / "dump"
    return {
        "kdumpd dump --jobs 1": Way(vmcore, output, lambda source, to: (*KDUMPD, "--jobs", "1", source, to)),
        "kdumpd dump --jobs 2": Way(vmcore, output, lambda source, to: (*KDUMPD, "--jobs", "2", source, to)),
        YARDSTICK: Way(vmcore, output, lambda source, to: (*peer.argv, "-z", "-d", "31", source, to)),
    }


def run(names: Sequence[str] = VMCORES, rounds: int = ROUNDS) -> str:
    """Markdown: for each vmcore wall time, processor time (children and all) and the size of the dump."""
    text = []
    for name in names:
        source = crash(RECIPES[name], say=print)
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=CACHE))
        try:
            by_name = ways(source.vmcore, folder)
            taken = in_turn(by_name, rounds)
        finally:
            shutil.rmtree(folder)
        processor = {name: Taken(tuple(way.processor_seconds[-rounds:])) for name, way in by_name.items()}
        text.append(table(f"Whole dump of {name} ({source.kernel.release}), wall time", taken, YARDSTICK))
        text.append(table(f"Whole dump of {name}, processor time", processor, YARDSTICK))
        text.append("".join(f"- {name}: {way.size:,} bytes\n" for name, way in by_name.items()))
    return "\n".join(text)


if __name__ == "__main__":
    print(run(sys.argv[1:] or VMCORES))
