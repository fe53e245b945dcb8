"""How old memory is to be mapped: the ranges, the strategy, the page tables that it takes. Pure but for `Machine.here`.

`linear` maps all that the vmcore holds once, which GATHER can copy pages from as well; `chunk` maps the structures of
mem_map alone, a window at a time; `page` maps one page after the other and is here for comparison. Called by
`scan.engine` and `scan.kernel`. May import `policy.model`, `scan.device`, `scan.requests` and
`vmcore.memory`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kdumpd.policy.model import MappingPageSize, MappingStrategy
from kdumpd.scan.device import Leaves
from kdumpd.scan.requests import Strategy
from kdumpd.vmcore.memory import Range, Ranges

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE_SHIFT = {
    MappingPageSize.AUTO: 30,
    MappingPageSize.GIB_1: 30,
    MappingPageSize.MIB_2: 21,
    MappingPageSize.KIB_4: 12,
}
NAME = {30: "1G", 21: "2M", 12: "4K"}
STRATEGY = {
    MappingStrategy.LINEAR: Strategy.LINEAR,
    MappingStrategy.CHUNK: Strategy.CHUNK,
    MappingStrategy.PAGE: Strategy.PAGE,
}

LOWEST = MIB  # what lies below is the capture kernel's own first megabyte, whatever the PT_LOADs say
MANY_RUNS = 512  # of mem_map: from here on chunk costs twice what linear does (docs/scan.md)
# Measured in a capture kernel, nanoseconds: to map by one leaf and read it back, to scan a page of an idle machine, and
# to begin. Linear may cost that part of a scan more than chunk, which maps next to nothing; more where it scans faster.
LEAF, PAGE, START = 370, 2, 20_000_000
SLOWER, SLOWER_FRAGMENTED = 20, 2
GATHERED = 1000  # nanoseconds that GATHER saves for each page that is written, beside an mmap of /proc/vmcore; at least
# The part of the available memory that page tables may take: the writer wants the rest.
SHARE, SHARE_FRAGMENTED = 16, 4
_TABLE = 4096
_MOST_TEXT = 64 * KIB
_ONE_PROCESSOR = 4 * KIB  # of /proc/cpuinfo, as long as there may be flags

# x86 keeps devices away from a "RAM buffer" behind this kernel's RAM, where the crashed kernel's memory goes on.
_RESOURCE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) : (?!RAM buffer$)", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


class Machine(NamedTuple):
    """What the capture kernel's machine can do. `leaf_shift`: the largest page that it maps with.

    `available`: bytes of memory. `own`: what the capture kernel uses, RAM or not. `granule`: bytes of its pages; the
    module maps whole ones.
    """

    leaf_shift: int
    available: int
    own: Ranges
    granule: int = 4096

    @classmethod
    def of(cls, cpuinfo: str, meminfo: str, command_line: str, iomem: str, granule: int = 4096) -> Machine:
        """From the texts of these files in /proc."""
        # Only x86 lists flags; aarch64 maps 1 GiB at once wherever its pages are 4 KiB.
        able = " pdpe1gb" in cpuinfo if "\nflags" in cpuinfo else granule == 4096
        huge = "nohugeiomap" not in command_line.split()
        found = _AVAILABLE.search(meminfo)
        resources = ((int(start, 16), int(end, 16) + 1) for start, end in _RESOURCE.findall(iomem))
        return cls(
            (30 if able else 21) if huge else 12,
            int(found[1]) * KIB if found else 0,
            Ranges(sorted(extent for extent in resources if extent[1] > 1)),  # without privilege all read as 0-0
            granule,
        )

    @classmethod
    def here(cls) -> Machine:
        """This machine; what /proc does not tell counts as little memory, or none."""
        cpuinfo = _text("cpuinfo", _ONE_PROCESSOR)
        return cls.of(cpuinfo, _text("meminfo"), _text("cmdline"), _text("iomem"), os.sysconf("SC_PAGE_SIZE"))


class Choice(NamedTuple):
    """How memory is mapped: by pages of at most 1 << `page_shift`; `why` is for the log."""

    strategy: Strategy
    page_shift: int
    why: str


def choose(
    strategy: MappingStrategy, page_size: MappingPageSize, runs: int, ranges: Sequence[Range], machine: Machine
) -> Choice:
    """The policy's wish where it has one; else linear where its page tables are cheap, and chunk where they are not.

    `runs`: how many mem_map has as far as somebody has looked. `ranges`: what linear would map.
    """
    shift = PAGE_SHIFT[page_size]
    if strategy is not MappingStrategy.AUTO:
        return Choice(STRATEGY[strategy], shift, f"{strategy.value} by the policy")
    leaf = min(shift, machine.leaf_shift)
    needed, count = table_bytes(ranges, leaf), sum(leaves(ranges, leaf))
    fragmented = runs > MANY_RUNS
    allowed = machine.available // (SHARE_FRAGMENTED if fragmented else SHARE)
    size = sum(end - start for start, end in ranges)
    scan = START + size // _TABLE * PAGE
    slow = count * LEAF > scan // (SLOWER_FRAGMENTED if fragmented else SLOWER)
    shape = f"mem_map in {'more than ' if fragmented else ''}{min(runs, MANY_RUNS)} runs"
    tables = f"{-(-needed // KIB)} KiB of page tables for {size / GIB:.1f} GiB by {NAME[leaf]}"
    if not ranges:
        return Choice(Strategy.CHUNK, shift, f"chunk: there is nothing to map linearly, {shape}")
    if slow:
        return Choice(Strategy.CHUNK, shift, f"chunk: linear would be slower, {count} pages to map, {shape}")
    if needed > allowed:
        limit = f"of {allowed // KIB} KiB allowed"
        return Choice(Strategy.CHUNK, shift, f"chunk: linear would take {tables}, {limit}, {shape}")
    return Choice(Strategy.LINEAR, shift, f"linear: {tables}, {shape}")


def for_pages(page_size: MappingPageSize, ranges: Sequence[Range], kept: int, machine: Machine) -> Choice | None:
    """How to map all of `ranges` once a scan by chunk has kept `kept` pages, so that GATHER copies those; None: not.

    What is too much for the scan may be little beside the pages; what takes too much memory stays too much.
    """
    leaf = min(PAGE_SHIFT[page_size], machine.leaf_shift)
    needed, count = table_bytes(ranges, leaf), sum(leaves(ranges, leaf))
    if not 0 < count * LEAF < kept * GATHERED or needed > machine.available // SHARE:
        return None
    why = f"its pages are copied from a linear map, {-(-needed // KIB)} KiB of page tables by {NAME[leaf]}"
    return Choice(Strategy.LINEAR, PAGE_SHIFT[page_size], why)


def linear_ranges(
    stored: Iterable[Range], hands_off: Iterable[Range], own: Iterable[Range], granule: int = 4096
) -> Ranges:
    """What may be mapped linearly: what the vmcore has, less those ranges, in whole pages, from the second MiB on."""
    taken = Ranges(sorted((*hands_off, *own, (0, LOWEST))))
    kept = ((-(-start // granule) * granule, end // granule * granule) for start, end in _less(stored, taken))
    return Ranges(extent for extent in kept if extent[0] < extent[1])


def _less(ranges: Iterable[Range], taken: Ranges) -> Iterator[Range]:
    for start, end in ranges:
        for lower, upper in taken:
            if lower >= end:
                break
            if upper > start:
                yield Range(start, lower)
                start = upper
        yield Range(start, end)


def leaves(ranges: Iterable[Range], leaf_shift: int) -> Leaves:
    """The entries of page tables that map these ranges, each as large as fits and `leaf_shift` allows."""
    gib_1 = mib_2 = kib_4 = 0
    for start, end in ranges:
        large = _whole(start, end, 30) if leaf_shift >= 30 else 0
        middle = _whole(start, end, 21) if leaf_shift >= 21 else 0
        gib_1 += large
        mib_2 += middle - large * 512
        kib_4 += (end - start) // 4096 - middle * 512
    return Leaves(gib_1, mib_2, kib_4)


def largest(of: Leaves) -> str:
    """The name of the largest page among these leaves; empty where there are none."""
    return next((name for name, count in zip(NAME.values(), of, strict=True) if count), "")


def table_bytes(ranges: Iterable[Range], leaf_shift: int) -> int:
    """The page tables below the top level that a linear map of these ranges takes, computed.

    The module cuts a range so that virtual addresses are aligned as physical ones are; where a table could serve two
    ranges, each is counted with one of its own.
    """
    tables = 0
    for start, end in ranges:
        tables += _tables(start, end, 21, leaf_shift) + _tables(start, end, 30, leaf_shift) + _spans(start, end, 39)
    return tables * _TABLE


def _tables(start: int, end: int, span_shift: int, leaf_shift: int) -> int:
    """How many tables that span 1 << `span_shift` each: none where a leaf of that size does it."""
    span = 1 << span_shift
    first, last = -(-start // span) * span, end // span * span
    if leaf_shift < span_shift or first >= last:
        return _spans(start, end, span_shift)
    return _spans(start, first, span_shift) + _spans(last, end, span_shift)


def _whole(start: int, end: int, shift: int) -> int:
    return max((end >> shift) - (start + (1 << shift) - 1 >> shift), 0)


def _spans(start: int, end: int, shift: int) -> int:
    return (end - 1 >> shift) - (start >> shift) + 1 if start < end else 0


def _text(name: str, most: int = _MOST_TEXT) -> str:
    content = b""
    try:
        fd = os.open(f"/proc/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while len(content) < most and (piece := os.read(fd, most)):
                content += piece
        finally:
            os.close(fd)
    except OSError:
        return ""
    return content.decode("latin-1")
