"""The scan against makedumpfile's, natively, on idle and busy vmcores of real crashes.

Both are timed from inside: makedumpfile by its own `STEP [Excluding unnecessary pages]` lines, every pass added up;
ours from the opened vmcore to the last window of bitmap 2, with the look for mem_map that makedumpfile does before its
first pass. Output goes to a tmpfs file in both.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.rounds import in_turn, table
from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.scan.planes import WINDOW
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab import peers
from tests.lab.crash import crash
from tests.lab.recipes import RECIPES

VMCORES = {
    "6.1": "1 GiB, half free",
    "6.1-busy": "2 GiB full of cache and anonymous memory",
    "6.1-high": "5 GiB, mostly free",
    "6.1-numa": "2 GiB in four nodes, mostly free",
    "6.1-64g": "64 GiB, nearly all free",
    "6.12": "1 GiB, half free, 6.12",
    "6.12-hvo": "1 GiB, half free, 6.12, vmemmap of huge pages shared",
    "newest": "1 GiB, half free, the newest kernel",
    "5.10": "1 GiB, half free, 5.10",
}
OURS, READ = "kdumpd, user engine", "page structures read, no more"
_STEP = re.compile(r"STEP \[Excluding unnecessary pages\] : ([0-9.]+) seconds")


class _ToFile:
    """A sink that writes bitmap 2 to a file, as the dump's writer does."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, bits: bytes) -> None:
        os.write(self.fd, bits)


def ours(vmcore: Path, folder: Path, examined: list[int]) -> float:
    """Seconds of one scan at level 31; the number of structures that it looked at is appended to `examined`."""
    fd = os.open(folder / "bitmap", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    with Vmcore.open(str(vmcore)) as core:
        start = time.perf_counter()
        counts = user.scan(core, PageKind(31), (), _ToFile(fd))
        taken = time.perf_counter() - start
    os.close(fd)
    examined.append(counts.examined)
    return taken


def read(vmcore: Path, structures: list[int]) -> float:
    """Seconds to read all page structures once, the way that our scan does: no scan of all of them can take less."""
    with Vmcore.open(str(vmcore)) as core:
        size, runs = core.info.size("page") or 64, list(core.mem_map())
        start = time.perf_counter()
        for run in runs:
            for first in range(0, run.pages, WINDOW):
                core.memory.window(run.physical + first * size, min(WINDOW, run.pages - first) * size)
        structures.append(sum(run.pages for run in runs))
        return time.perf_counter() - start


def theirs(program: peers.Program, vmcore: Path, folder: Path, passes: list[int]) -> float:
    """Seconds of all passes of one makedumpfile at level 31; the number of passes is appended to `passes`."""
    dump = folder / "dump"
    dump.unlink(missing_ok=True)
    done = program.run("--message-level", "16", "-d", "31", "-l", vmcore, dump)
    steps = [float(seconds) for seconds in _STEP.findall(done.stdout + done.stderr)]
    passes.append(len(steps))
    return sum(steps)


def main() -> None:
    """Print a table for each vmcore."""
    program = peers.makedumpfile(say=print)
    yardstick = f"makedumpfile {program.version}"
    for name, what in VMCORES.items():
        vmcore = crash(RECIPES[name], say=print).vmcore
        passes: list[int] = []
        examined: list[int] = []
        structures: list[int] = []
        with TemporaryDirectory(dir="/dev/shm") as folder:
            ways = {
                OURS: partial(ours, vmcore, Path(folder), examined),
                READ: partial(read, vmcore, structures),
                yardstick: partial(theirs, program, vmcore, Path(folder), passes),
            }
            taken = in_turn(ways, rounds=9)
        print(table(f"Scan of {name}: {what} ({passes[-1]} passes of makedumpfile)", taken, yardstick))
        looked, alone = taken[OURS].median / examined[-1] * 1e9, taken[READ].median / structures[-1] * 1e9
        of = f"{examined[-1]:,} of {structures[-1]:,} structures looked at"
        print(f"{of}: {looked:.1f} ns each; to read one: {alone:.1f}\n")


if __name__ == "__main__":
    main()
