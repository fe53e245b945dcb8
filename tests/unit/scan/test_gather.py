"""Pages by way of the module's map, and by the vmcore where that ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kdumpd.errors import ScanError, VmcoreError
from kdumpd.scan.gather import SPAN, GatheredPages
from kdumpd.scan.requests import Strategy
from kdumpd.vmcore.memory import Range
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import MIB, VmcoreBuilder
from tests.unit.scan.fakedevice import FakeDevice

FIRST = 8 * MIB >> 12  # where the builder leaves room


def content(pfn: int) -> bytes:
    """Every third page is all zero."""
    return pfn.to_bytes(8, "little") * 512 if pfn % 3 else bytes(4096)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Vmcore]:
    builder = VmcoreBuilder(((0x1000, 0x9F000), (MIB, 512 * MIB)))
    for pfn in (*range(FIRST, FIRST + 600), 0x1F000, 0x1F001, 0x1F002):
        builder.write(pfn << 12, content(pfn))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as opened:
        yield opened


def source(core: Vmcore, *ranges: tuple[int, int]) -> GatheredPages:
    device = FakeDevice(core.memory)
    mapped = device.map([Range(start << 12, end << 12) for start, end in ranges], Strategy.LINEAR, 30)
    return GatheredPages(core.memory, device, mapped.id)


def wanted(runs: list[tuple[int, int]]) -> list[bytes]:
    pages = [content(pfn) for first, count in runs for pfn in range(first, first + count)]
    return [page if any(page) else b"" for page in pages]


@pytest.mark.parametrize(
    "runs",
    [
        [(FIRST, 1)],
        [(FIRST, 256)],
        [(FIRST, 3), (FIRST + 10, 1), (FIRST + 12, 200)],
        [(FIRST, 3), (0x1F000, 3)],  # too far apart for one call
        [(FIRST + 7, 1), (FIRST + 9, 7), (FIRST + 100, 150)],
        [(FIRST, 600)],
        [],
    ],
)
@pytest.mark.parametrize(
    "ranges",
    [
        [(256, 0x20000)],
        [(256, FIRST + 2), (FIRST + 4, FIRST + 101), (FIRST + 102, 0x1F001)],  # holes in the map
        [(FIRST + 300, 0x1F000)],
        [(0x1F002, 0x20000)],
    ],
)
def test_pages_are_the_vmcores_whether_the_map_has_them_or_not(
    runs: list[tuple[int, int]], ranges: list[tuple[int, int]], core: Vmcore
) -> None:
    pages = source(core, *ranges)
    assert [bytes(page) for page in pages.pages(runs)] == wanted(runs)
    assert [bytes(page) for page in pages.pages(runs[:1])] == wanted(runs[:1])


def test_far_runs_take_a_call_each_and_near_ones_share_it(core: Vmcore) -> None:
    device = FakeDevice(core.memory)
    mapped = device.map([Range(MIB, 512 * MIB)], Strategy.LINEAR, 30)
    pages = GatheredPages(core.memory, device, mapped.id)
    pages.pages([(FIRST, 1), (FIRST + SPAN - 1, 1)])
    assert device.asked["gather"] == 1
    pages.pages([(FIRST, 1), (FIRST + SPAN, 1)])
    assert device.asked["gather"] == 3


def test_module_that_fails_is_a_scan_error(core: Vmcore) -> None:
    def before(request: str, number: int) -> None:
        if request == "gather":
            raise ScanError("broken")

    device = FakeDevice(core.memory, before)
    mapped = device.map([Range(MIB, 512 * MIB)], Strategy.LINEAR, 30)
    with pytest.raises(ScanError, match="broken"):
        GatheredPages(core.memory, device, mapped.id).pages([(FIRST, 1)])


def test_page_that_nobody_has_is_a_vmcore_error(core: Vmcore) -> None:
    with pytest.raises(VmcoreError):
        source(core, (256, 0x20000)).pages([(0x30000, 1)])


def test_last_page_of_a_pt_load_is_filled_up_with_zeros(tmp_path: Path) -> None:
    builder = VmcoreBuilder(((0x1000, 0x9F000), (MIB, 256 * MIB - 100)))
    last = (256 * MIB >> 12) - 1
    builder.write(last << 12, b"\xff" * 3996)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as opened:
        (page,) = source(opened, (256, last)).pages([(last, 1)])
        assert bytes(page) == b"\xff" * 3996 + bytes(100)
