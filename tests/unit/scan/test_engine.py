"""Which engine scans, and that it makes no difference: module, user engine, or one after the other in the middle."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from kdumpd.errors import DumpError, ScanError
from kdumpd.policy.model import EngineChoice, MappingPageSize, MappingStrategy, PageKind
from kdumpd.scan import engine, user
from kdumpd.scan.engine import ScanOptions, Selected
from kdumpd.scan.kernel import WINDOW
from kdumpd.scan.mapping import GIB, MIB, Machine
from kdumpd.scan.requests import Strategy
from kdumpd.scan.selection import Interval, PageCounts
from kdumpd.vmcore.memory import Ranges
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import VMEMMAP, VmcoreBuilder
from tests.unit.scan.fakedevice import FakeDevice
from tests.unit.scan.sinks import Bits

ALL = PageKind(31)
LRU, HEAD, POISON = 1 << 4, 1 << 16, 1 << 23
HANDS_OFF = (Interval(0x1800, 0x1900), Interval(0x8100, 0x9000))
# Memory in two windows of 16 GiB, and a hole of two windows before a last page: four windows in all.
RANGES = ((0x1000, 0x9F000), (MIB, 160 * MIB), (17 * GIB, 17 * GIB + 128 * MIB), (50 * GIB, 50 * GIB + 4096))
HERE = Machine(30, 128 * MIB, Ranges([]))


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    builder = VmcoreBuilder(RANGES, info={"NUMBER(PG_hwpoison)": "23"})
    draw = random.Random(4)
    for start, end in RANGES[1:3]:
        first, last = start >> 12, end >> 12
        for pfn in range(-(-first // 1024) * 1024, last, 1024):
            order = draw.choice([0, 3, 6, 9, 10, 10, 10, 11, 77])
            builder.page(pfn, _mapcount=-129, private=order)
        for _ in range(400):
            pfn = draw.randrange(first, last - 1)
            builder.page(pfn, flags=draw.choice([LRU, LRU | 1 << 13, POISON, HEAD | LRU, HEAD]))
            builder.page(pfn, mapping=draw.choice([0, 0xFFFF888000000001]))
            builder.page(pfn + 1, compound_order=draw.choice([0, 1, 3, 9, 60]), compound_dtor=draw.choice([0, 2]))
    # A section whose structures lie page by page, as hugetlb's vmemmap optimisation leaves them.
    for page in range(0, 512, 2):
        builder.map(VMEMMAP + 17 * GIB // 4096 * 64 + 4096 * page, builder.structure_at(17 * GIB >> 12))
    return builder.save(tmp_path_factory.mktemp("engine") / "vmcore")


@cache
def expected(path: str, level: PageKind) -> tuple[Bits, PageCounts]:
    bits = Bits()
    with Vmcore.open(path) as core:
        return bits, user.scan(core, level, HANDS_OFF, bits)


def selected(
    path: str,
    options: ScanOptions,
    before: Callable[[str, int], None] = lambda request, number: None,
    level: PageKind = ALL,
    here: Machine = HERE,
    afterwards: Machine | None = None,
) -> tuple[Bits, Selected, FakeDevice]:
    bits, devices, seen = Bits(), [], []

    def opened(core: Vmcore, device: str) -> FakeDevice:
        devices.append(FakeDevice(core.memory, before))
        return devices[0]

    with Vmcore.open(path) as core:
        result = engine.select(
            core,
            level,
            HANDS_OFF,
            bits,
            lambda done, total: seen.append((done, total)),
            options,
            opened=opened,
            machine=iter((here, afterwards or here)).__next__,
        )
        if result.pages is not None:
            assert not devices[0].closed
            result.pages.close()
    assert devices[0].closed
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    return bits, result, devices[0]


def same(counts: PageCounts, wanted: PageCounts) -> bool:
    """Equal in all but how many structures had to be looked at."""
    return counts._replace(examined=0) == wanted._replace(examined=0)


@pytest.mark.parametrize("strategy", [MappingStrategy.LINEAR, MappingStrategy.CHUNK, MappingStrategy.PAGE])
def test_module_decides_what_the_user_engine_decides(strategy: MappingStrategy, vmcore: str) -> None:
    wanted, counts = expected(vmcore, ALL)
    bits, result, device = selected(vmcore, ScanOptions(strategy=strategy))
    assert bits.content == wanted.content
    assert same(result.counts, counts)
    assert counts.hwpoison and counts.hands_off and counts.cache and counts.user and counts.free
    assert "impossible order" in counts.warnings[0]
    assert result.report.engine is EngineChoice.KERNEL
    assert result.report.strategy == strategy.value == device.mapped[0][0].name.lower()
    assert (result.pages is not None) == (strategy is MappingStrategy.LINEAR)
    assert device.asked["scan"] == 3  # a window without memory asks for nothing


@pytest.mark.parametrize("level", [0, 1, 2, 4, 8, 16, 24, 30])
def test_module_decides_the_same_at_other_levels(level: int, vmcore: str) -> None:
    wanted, counts = expected(vmcore, PageKind(level))
    bits, result, _ = selected(vmcore, ScanOptions(), level=PageKind(level))
    assert bits.content == wanted.content
    assert same(result.counts, counts)


@pytest.mark.parametrize("strategy", [MappingStrategy.LINEAR, MappingStrategy.CHUNK])
def test_a_capture_kernel_of_larger_pages_is_asked_for_whole_ones(strategy: MappingStrategy, vmcore: str) -> None:
    wanted, _ = expected(vmcore, ALL)
    bits, result, device = selected(vmcore, ScanOptions(strategy=strategy), here=HERE._replace(granule=65536))
    assert bits.content == wanted.content
    assert result.report.engine is EngineChoice.KERNEL
    assert all(not place % 65536 for _, _, ranges in device.mapped for extent in ranges for place in extent)


def failing(request: str, number: int) -> Callable[[str, int], None]:
    """The module fails at this request, and at no other."""

    def before(asked: str, count: int) -> None:
        if (asked, count) == (request, number):
            raise ScanError("fake: it is broken")

    return before


@pytest.mark.parametrize(
    ("strategy", "request_", "number", "position"),
    [
        (MappingStrategy.LINEAR, "map", 1, 0),
        (MappingStrategy.LINEAR, "scan", 1, 0),
        (MappingStrategy.LINEAR, "scan", 2, WINDOW),
        (MappingStrategy.LINEAR, "scan", 3, 3 * WINDOW),
        (MappingStrategy.CHUNK, "map", 2, WINDOW),
        (MappingStrategy.CHUNK, "unmap", 2, WINDOW),
        (MappingStrategy.PAGE, "scan", 2, WINDOW),
    ],
)
def test_user_engine_takes_over_in_the_middle_bit_for_bit(
    strategy: MappingStrategy, request_: str, number: int, position: int, vmcore: str
) -> None:
    wanted, counts = expected(vmcore, ALL)
    bits, result, _ = selected(vmcore, ScanOptions(strategy=strategy), failing(request_, number))
    assert bits.content == wanted.content
    assert result.counts[:9] == counts[:9]
    assert result.report.engine is EngineChoice.USER
    assert result.report.fell_back
    assert result.pages is None
    where = f"from pfn {position:#x} of {50 * GIB // 4096 + 1:#x} on" if position else "all of it"
    assert result.report.why == f"user, {where}: fake: it is broken"


@pytest.mark.parametrize("strategy", [MappingStrategy.LINEAR, MappingStrategy.CHUNK])
def test_module_has_given_up_its_maps_when_the_user_engine_goes_on(strategy: MappingStrategy, vmcore: str) -> None:
    class Watching(Bits):
        def write(self, bits: bytes) -> None:
            assert device.closed == (len(self.content) >= WINDOW // 8)
            super().write(bits)

    bits = Watching()
    with Vmcore.open(vmcore) as core:
        device = FakeDevice(core.memory, failing("scan", 2))
        options = ScanOptions(strategy=strategy)
        engine.select(core, ALL, (), bits, None, options, opened=lambda core, path: device, machine=lambda: HERE)
    assert len(bits.content) > WINDOW // 8


def test_chunk_follows_where_linear_cannot_be_had(vmcore: str) -> None:
    wanted, counts = expected(vmcore, ALL)
    bits, result, device = selected(vmcore, ScanOptions(), failing("map", 1))
    assert bits.content == wanted.content
    assert same(result.counts, counts)
    assert result.report.why == "chunk, since linear failed: fake: it is broken"
    assert {strategy for strategy, _, _ in device.mapped} == {Strategy.CHUNK}


SMALL = Machine(12, 128 * MIB, Ranges([]))  # by its small pages linear is slower than the scan is worth


def test_pages_are_copied_from_a_linear_map_that_was_too_slow_for_the_scan(vmcore: str) -> None:
    wanted, counts = expected(vmcore, ALL)
    bits, result, device = selected(vmcore, ScanOptions(), here=SMALL)
    assert bits.content == wanted.content
    assert same(result.counts, counts)
    assert [strategy for strategy, _, _ in device.mapped] == [Strategy.CHUNK] * 3 + [Strategy.LINEAR]
    assert result.report.strategy == "chunk"
    assert result.report.page_table_bytes == 4096 * max(len(ranges) for _, _, ranges in device.mapped)
    assert result.report.why.startswith("chunk: linear would be slower")
    assert result.report.why.endswith("by 4K")
    assert result.pages is not None


def test_report_tells_the_map_for_the_pages_from_those_of_the_scan(vmcore: str) -> None:
    _, result, device = selected(vmcore, ScanOptions(), here=SMALL)
    *scanned, pages = [len(ranges) for _, _, ranges in device.mapped]
    assert result.report.leaves == (0, sum(scanned), 0)
    assert result.report.pages_map == ("linear", "2M", (0, pages, 0), 4096 * pages)


def test_map_that_served_the_scan_is_told_as_that_of_the_pages_too(vmcore: str) -> None:
    _, result, _ = selected(vmcore, ScanOptions(strategy=MappingStrategy.LINEAR))
    report = result.report
    assert report.pages_map == (report.strategy, report.page_size, report.leaves, report.page_table_bytes)


@pytest.mark.parametrize(("before", "now", "mapped"), [(128 * MIB, MIB, False), (MIB, 128 * MIB, True)])
def test_pages_are_mapped_by_the_memory_that_is_left_after_the_scan(
    before: int, now: int, mapped: bool, vmcore: str
) -> None:
    here, afterwards = SMALL._replace(available=before), SMALL._replace(available=now)
    _, result, _ = selected(vmcore, ScanOptions(), here=here, afterwards=afterwards)
    assert (result.pages is not None) == (result.report.pages_map is not None) == mapped


@pytest.mark.parametrize(
    "options", [ScanOptions(strategy=MappingStrategy.CHUNK), ScanOptions(page_size=MappingPageSize.AUTO)], ids=str
)
def test_pages_are_not_mapped_where_the_policy_wants_chunk_or_memory_is_short(
    options: ScanOptions, vmcore: str
) -> None:
    _, result, device = selected(vmcore, options, here=SMALL._replace(available=MIB))
    assert result.pages is None
    assert {strategy for strategy, _, _ in device.mapped} == {Strategy.CHUNK}


def test_pages_whose_map_fails_are_read_from_the_vmcore(vmcore: str) -> None:
    wanted, _ = expected(vmcore, ALL)
    bits, result, _ = selected(vmcore, ScanOptions(), failing("map", 4), here=SMALL)
    assert bits.content == wanted.content
    assert result.report.engine is EngineChoice.KERNEL
    assert not result.report.fell_back
    assert result.pages is None
    assert result.report.why.endswith("; its pages are read from the vmcore: fake: it is broken")


def test_memory_that_the_map_lacks_is_the_user_engines(vmcore: str) -> None:
    # mem_map lies in memory that the capture kernel says is its own.
    wanted, _ = expected(vmcore, ALL)
    own = Ranges([(16 * MIB, 17 * MIB)])
    bits, result, _ = selected(vmcore, ScanOptions(), here=HERE._replace(own=own))
    assert bits.content == wanted.content
    assert result.report.fell_back
    assert "not mapped" in result.report.why


def test_chunk_maps_each_window_and_gives_it_up(vmcore: str) -> None:
    _, result, device = selected(vmcore, ScanOptions(strategy=MappingStrategy.CHUNK))
    assert device.asked["map"] == device.asked["unmap"] == device.asked["scan"]
    assert not device.maps
    ranges = [len(ranges) for _, _, ranges in device.mapped]
    assert result.report.leaves == (0, sum(ranges), 0)
    assert result.report.page_table_bytes == 4096 * max(ranges)
    assert result.report.page_size == "2M"


def test_page_size_of_the_policy_reaches_the_module(vmcore: str) -> None:
    for size, shift in ((MappingPageSize.MIB_2, 21), (MappingPageSize.KIB_4, 12), (MappingPageSize.AUTO, 30)):
        _, _, device = selected(vmcore, ScanOptions(strategy=MappingStrategy.LINEAR, page_size=size))
        assert device.mapped[0][1] == shift


def test_forced_module_that_fails_is_an_error(vmcore: str) -> None:
    options = ScanOptions(EngineChoice.KERNEL)
    with pytest.raises(ScanError, match="failed at pfn 0x400000: fake: it is broken"):
        selected(vmcore, options, failing("scan", 2))


def test_sink_that_fails_is_not_taken_for_a_scan_that_does(vmcore: str) -> None:
    class Full:
        def write(self, bits: bytes) -> None:
            raise DumpError("no room")

    with Vmcore.open(vmcore) as core:
        device = FakeDevice(core.memory)
        options = ScanOptions()
        with pytest.raises(DumpError, match="no room"):
            engine.select(core, ALL, (), Full(), None, options, opened=lambda core, path: device, machine=lambda: HERE)
    assert device.closed


def test_vmcore_in_a_file_is_the_user_engines(vmcore: str) -> None:
    wanted, counts = expected(vmcore, ALL)
    bits = Bits()
    with Vmcore.open(vmcore) as core:
        result = engine.select(core, ALL, HANDS_OFF, bits, None, ScanOptions())
        assert bits.content == wanted.content
        assert result.counts == counts
        assert result.report.engine is EngineChoice.USER
        assert not result.report.fell_back
        assert "scans /proc/vmcore alone" in result.report.why
        with pytest.raises(ScanError, match="scans /proc/vmcore alone"):
            engine.select(core, ALL, (), Bits(), None, ScanOptions(EngineChoice.KERNEL))


def test_user_engine_by_the_policy_opens_no_device(vmcore: str) -> None:
    def opened(core: Vmcore, device: str) -> FakeDevice:
        raise AssertionError

    with Vmcore.open(vmcore) as core:
        result = engine.select(core, ALL, (), Bits(), None, ScanOptions(EngineChoice.USER), opened=opened)
    assert result.report.why == "user by the policy"
    assert result.report.seconds > 0
    assert result.report.nanoseconds_per_page > 0


@pytest.mark.parametrize("info", [{"SIZE(page)": None}, {"SYMBOL(mem_section)": "0"}], ids=str)
def test_vmcore_that_neither_engine_understands_is_a_scan_error(info: dict[str, str | None], tmp_path: Path) -> None:
    VmcoreBuilder().save(tmp_path / "good")
    builder = VmcoreBuilder()
    builder.info.update(info)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        device = FakeDevice(core.memory)
        with pytest.raises(ScanError):
            engine.select(
                core, ALL, (), Bits(), None, ScanOptions(), opened=lambda core, path: device, machine=lambda: HERE
            )
    assert device.closed
