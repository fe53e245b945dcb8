"""Why makedumpfile keeps another page than we do: each known difference by name. Called by tests on real crashes."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

from kdumpd.scan.rules import Fate, judge
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.kept import kept_bits, pfns
from tests.lab.peers import Program

WAITERS = 1 << 7  # PG_waiters from 6.10, where makedumpfile still tests for PG_slab


def differences(vmcore: Path, level: int, ours: int, makedumpfile: Program, folder: Path) -> Counter[str]:
    """The pages on which the bits of `ours` and makedumpfile's on this vmcore differ, counted by cause."""
    dump = folder / "dump"
    makedumpfile.run("--message-level", "0", "-d", str(level), "-l", vmcore, dump)
    theirs = kept_bits(dump)
    dump.unlink()
    with Vmcore.open(str(vmcore)) as core:
        structures = Structures(core)
        differ = [(pfn, True) for pfn in pfns(ours & ~theirs)] + [(pfn, False) for pfn in pfns(theirs & ~ours)]
        return Counter(structures.cause(pfn, level, kept_by_us) for pfn, kept_by_us in differ)


class Structures:
    """The page structures of a vmcore, one at a time."""

    def __init__(self, core: Vmcore) -> None:
        self.core = core
        self.layout = PageLayout.of(core.info)
        self.runs = list(core.mem_map())

    def of(self, pfn: int) -> bytes:
        """The structure of `pfn` and the one after it."""
        run = next(run for run in self.runs if run.first_pfn <= pfn < run.first_pfn + run.pages)
        return self.core.memory.read(run.physical + (pfn - run.first_pfn) * self.layout.size, 2 * self.layout.size)

    def cause(self, pfn: int, level: int, kept_by_us: bool) -> str:
        """Why makedumpfile decides otherwise on this page; "unexplained" if no known difference applies."""
        layout = self.layout
        pages = self.of(pfn)
        page = pages[: layout.size]
        fate = judge(layout, level, pfn, page, pages[layout.size :]).fate
        (flags,) = struct.unpack_from("<Q", page, layout.flags)
        tail = bool(page[layout.compound_head] & 1)
        if kept_by_us and tail and self.core.info.offset("page.compound_head") is None:
            return "a tail on 7.1 and newer, whose compound_info that makedumpfile does not know"
        if not kept_by_us and tail and fate is Fate.HWPOISON:
            return "the poisoned page of a huge page, left out by itself"
        if not kept_by_us and fate is Fate.USER and layout.slab_flag is None and flags & WAITERS:
            return "an anonymous page with waiters, taken for slab by makedumpfile"
        if not kept_by_us and level < 2 and fate in (Fate.HWPOISON, Fate.OFFLINE):
            return "hwpoison or offline, left out at every level"
        return "unexplained"
