"""Windows of mem_map, and the memory that holds their structures."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan import requests
from kdumpd.scan.device import Leaves, Mapped, ScanDevice, Window
from kdumpd.scan.kernel import (
    MOST_RUNS,
    SMALLEST,
    WINDOW,
    KernelScan,
    MappingReport,
    joined,
    overlapping,
    structures,
    windows_of,
)
from kdumpd.scan.requests import Strategy
from kdumpd.scan.selection import Interval, PageCounts
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.mem_map import MemMapRun
from kdumpd.vmcore.memory import Range
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import MIB, VmcoreBuilder


def spans(runs: list[MemMapRun], max_pfn: int) -> list[tuple[int, int, int]]:
    return [(first, end, len(touching)) for first, end, touching in windows_of(iter(runs), max_pfn)]


def test_windows_cover_everything_and_a_run_is_in_each_that_it_touches() -> None:
    runs = [MemMapRun(10, 2 * WINDOW, 0), MemMapRun(3 * WINDOW + 1, 5, 0)]
    assert spans(runs, 3 * WINDOW + 100) == [
        (0, WINDOW, 1),
        (WINDOW, 2 * WINDOW, 1),
        (2 * WINDOW, 3 * WINDOW, 1),
        (3 * WINDOW, 3 * WINDOW + 100, 1),
    ]


def test_machine_without_mem_map_has_windows_all_the_same() -> None:
    assert spans([], WINDOW + 1) == [(0, WINDOW, 0), (WINDOW, WINDOW + 1, 0)]


def test_windows_are_smaller_while_there_are_many_runs() -> None:
    dense = [MemMapRun(pfn, 64, pfn) for pfn in range(0, 8 * SMALLEST, 64)]
    found = list(windows_of(iter([*dense, MemMapRun(WINDOW, 1, 0)]), 2 * WINDOW))
    assert all(first % SMALLEST == 0 and len(runs) <= MOST_RUNS for first, _, runs in found)
    assert [end for _, end, _ in found][:-1] == [first for first, _, _ in found][1:]
    assert [run for _, _, runs in found for run in runs] == [*dense, MemMapRun(WINDOW, 1, 0)]
    assert found[0][:2] == (0, 2 * SMALLEST)


def test_smallest_window_may_have_more_runs() -> None:
    dense = [MemMapRun(pfn, 16, pfn) for pfn in range(0, 2 * SMALLEST, 16)]
    assert spans(dense, 2 * SMALLEST) == [(0, SMALLEST, SMALLEST // 16), (SMALLEST, 2 * SMALLEST, SMALLEST // 16)]


def window(first: int, end: int) -> Window:
    return Window(first, end, array("Q"), array("Q"), array("Q"))


def test_structures_are_clipped_to_the_window_but_for_one_behind_it() -> None:
    run = MemMapRun(0, 3 * SMALLEST, 0x100000)
    middle = window(SMALLEST, 2 * SMALLEST)
    start = 0x100000 + SMALLEST * 64
    assert list(structures([run], middle, 64)) == [Range(start, start + SMALLEST * 64 + 4096)]
    assert structures([run], window(2 * SMALLEST, 3 * SMALLEST), 64)[0].end == 0x100000 + 3 * SMALLEST * 64


def test_structures_that_share_pages_or_lie_downwards_are_mapped_once() -> None:
    runs = [MemMapRun(0, 64, 0x5000), MemMapRun(64, 64, 0x4000), MemMapRun(128, 64, 0x4000), MemMapRun(192, 32, 0x9800)]
    assert list(structures(runs, window(0, SMALLEST), 64)) == [Range(0x4000, 0x6000), Range(0x9000, 0xA000)]


def test_overlapping_intervals_are_those_with_a_page_inside() -> None:
    intervals = (Interval(0, 10), Interval(10, 20), Interval(30, 40))
    assert overlapping(intervals, 10, 30) == intervals[1:2]
    assert overlapping(intervals, 20, 30) == ()
    assert overlapping(intervals, 5, 31) == intervals


def test_joined_counts_say_a_warning_once() -> None:
    one = PageCounts(10, 4, cache=6, examined=3, warnings=("a", "b"))
    other = PageCounts(5, 5, examined=1, warnings=("b", "c"))
    assert joined(one, other) == PageCounts(15, 9, cache=6, examined=4, warnings=("a", "b", "c"))


@pytest.mark.parametrize("order", [1, -1])
def test_report_of_maps_adds_leaves_and_keeps_the_most_tables(order: int) -> None:
    report = MappingReport()
    for mapped in (Mapped(1, Leaves(1, 2, 3), 8192, nanoseconds=5), Mapped(2, Leaves(0, 1, 0), 4096, retried=1))[
        ::order
    ]:
        report = report.plus(mapped)
    assert report == MappingReport(Leaves(1, 3, 3), 8192, 1, 0, 5)


class Keeping:
    """A module that keeps every page of the first window, and leaves its bitmap as it is where nothing is kept."""

    def map(self, ranges: Iterable[Range], strategy: Strategy, page_shift: int) -> Mapped:
        return Mapped(1, Leaves(0, 0, 0), 0)

    def scan(
        self, mapped: int, layout: bytes, level: int, window: Window, bitmap: array[int], timeout: int
    ) -> requests.Scan:
        pages = window.end - window.first
        kept = 0 if window.first else pages
        if kept:
            bitmap[:] = array("B", b"\xff") * len(bitmap)
        return requests.Scan(*[0] * 17)._replace(total=pages, kept=kept, free=pages - kept, examined=7)

    def unmap(self, mapped: int) -> None:
        pass


def test_window_of_which_nothing_is_kept_is_zeros_whatever_the_one_before_it_had(tmp_path: Path) -> None:
    hole = (2 * WINDOW * 4096, 3 * WINDOW * 4096)
    builder = VmcoreBuilder(((0x1000, 0x9F000), (MIB, hole[0]), (hole[1], hole[1] + 64 * MIB)))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        scan = KernelScan(core, PageLayout.of(core.info), PageKind(31), (), cast("ScanDevice", Keeping()))
        windows = [b"".join(window) for window in scan.windows(core.mem_map())]
    size = WINDOW // 8
    assert windows == [b"\xff" * size, bytes(size), bytes(size), bytes(64 * MIB >> 15)]
    counts = scan.counts()
    assert (counts.kept, counts.examined, counts.free) == (WINDOW, 21, WINDOW + (64 * MIB >> 12))


class Idle:
    """A module that maps and scans in no time."""

    def map(self, ranges: Iterable[Range], strategy: Strategy, page_shift: int) -> Mapped:
        return Mapped(1, Leaves(0, sum(1 for _ in ranges), 0), 4096)

    def scan(
        self, mapped: int, layout: bytes, level: int, window: Window, bitmap: array[int], timeout: int
    ) -> requests.Scan:
        return requests.Scan(*[0] * 17)

    def unmap(self, mapped: int) -> None:
        pass


def test_memory_of_a_scan_is_bounded_where_mem_map_is_in_pieces(tmp_path: Path) -> None:
    builder = VmcoreBuilder(((0x1000, 0x9F000), (MIB, 3072 * MIB)))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        device = cast("ScanDevice", Idle())
        tracemalloc.start()
        scan = KernelScan(core, PageLayout.of(core.info), PageKind(31), (), device)
        # Every other page of structures is the same one, as under hugetlb's vmemmap optimisation.
        pieces = (
            MemMapRun(pfn, 64, 16 * MIB + (pfn * 64 if pfn % 128 else 0)) for pfn in range(0, 3072 * MIB >> 12, 64)
        )
        windows = sum(1 for _ in scan.windows(pieces))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert windows == 2
    assert peak < 4.5 * MIB
