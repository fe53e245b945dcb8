"""The module's walk, compiled natively: bit for bit and count for count what the rule book and the user engine give."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.scan.rules import judge
from kdumpd.scan.selection import Interval, PageCounts, present_pages
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.mem_map import MemMapRun
from kdumpd.vmcore.memory import Range
from kdumpd.vmcore.vmcore import Vmcore
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo
from tests.builders.vmcore import PAGE, SECTION_PAGES, VmcoreBuilder
from tests.builders.vmcoreinfo import KERNEL_6_12
from tests.unit.kmod import native
from tests.unit.kmod.native import SUBWINDOW
from tests.unit.kmod.structures import LAYOUTS, layout, structures
from tests.unit.scan.layouts import TEXTS
from tests.unit.scan.test_planes import FIRST_PFN, random_window, walk

Ranges = Sequence[tuple[int, int]]
BASE = 1 << 32  # physical place of the first run's structures
TOP = SUBWINDOW + 2048


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return native.compiled(tmp_path_factory.mktemp("kmod"))


class Bits(bytearray):
    """Takes bitmap 2."""

    def write(self, bits: bytes) -> None:
        self.extend(bits)


class Memory:
    """Page structures from BASE on, and page frames that are in the vmcore: no file behind them."""

    maps = True

    def __init__(self, content: bytes, present: Ranges) -> None:
        self.content = content
        self.stored_ranges = [Range(start * PAGE, end * PAGE) for start, end in present]

    def view(self, physical: int, size: int) -> bytes:
        at = physical - BASE
        assert 0 <= at <= len(self.content) - size
        return self.content[at : at + size]

    def window(self, physical: int, size: int) -> tuple[bytes, int]:
        self.view(physical, size)
        return self.content, physical - BASE

    def mapped(self, physical: int) -> tuple[bytes, int, int] | None:
        at = physical - BASE
        return (self.content, at, len(self.content)) if 0 <= at < len(self.content) else None

    def wide(self) -> AbstractContextManager[None]:
        return nullcontext()


def by_user_engine(core: object, level: int, hands_off: Ranges) -> tuple[bytes, PageCounts, int]:
    """Bitmap 2, the counts without what engines may differ in, and how many orders cannot be."""
    bits = Bits()
    counts = user.scan(cast(Vmcore, core), PageKind(level), tuple(Interval(*item) for item in hands_off), bits)
    said = [line for line in counts.warnings if "impossible order" in line]
    return bytes(bits), counts._replace(examined=0, warnings=()), int(said[0].split()[0]) if said else 0


def agree(
    library: ctypes.CDLL,
    kind: str,
    level: int,
    runs: Sequence[tuple[int, int, int]],
    present: Ranges,
    hands_off: Ranges,
    content: bytes,
    *,
    piece: int = 0,
    budget: int = 1 << 15,
) -> None:
    """Assert that the module and the user engine give the same."""
    max_pfn = max([runs[-1][0] + runs[-1][1], *(end for _, end in present)])
    core = SimpleNamespace(
        info=VmcoreInfo(LAYOUTS[kind].encode()),
        memory=Memory(content, present),
        page_size=PAGE,
        max_pfn=max_pfn,
        mem_map=lambda: iter([MemMapRun(*run) for run in runs]),
        mem_map_gaps=0,
    )
    got = native.scan(
        library,
        layout(kind),
        PageKind(level),
        runs,
        present,
        hands_off,
        (0, max_pfn),
        content,
        physical=BASE,
        piece=piece,
        budget=budget,
    )
    assert got.error == 0
    expected = by_user_engine(core, level, hands_off)
    assert (got.counts._replace(examined=0), got.bad_orders) == expected[1:]
    assert got.bits == expected[0]


def examined(known: PageLayout, level: int, window: bytes) -> int:
    """How many structures the rule book has to look at."""
    at = looked = 0
    while at < len(window):
        page, second = window[at : at + known.size], window[at + known.size : at + 2 * known.size]
        at += known.size << judge(known, level, FIRST_PFN + at // known.size, page, second).order
        looked += 1
    return looked


@pytest.mark.parametrize("kernel", TEXTS)
def test_every_level_agrees_with_the_rule_book(library: ctypes.CDLL, kernel: str) -> None:
    known = layout(kernel)
    for level in range(32):
        window = random_window(known, 1024, seed=1000 + level)
        area = (FIRST_PFN, FIRST_PFN + SUBWINDOW)
        run = (FIRST_PFN, 1024, BASE)
        got = native.scan(library, known, PageKind(level), [run], [area], [], area, window, physical=BASE)
        fates, reach = walk(known, PageKind(level), window)
        fates += [fates[-1]] * (reach - len(fates))
        assert [got.bits[at >> 3] >> (at & 7) & 1 for at in range(len(fates))] == [int(not fate) for fate in fates]
        assert got.counts.examined == examined(known, level, window)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_level_agrees_with_the_user_engine(library: ctypes.CDLL, kind: str) -> None:
    known = layout(kind)
    for seed in range(8):
        draw = random.Random(f"{kind} {seed}")
        first = draw.choice([0, 1, 1024, SUBWINDOW - 1500, SUBWINDOW - 2049])
        content = structures(known, first, 3000, draw)
        present = [(first, first + draw.choice([2650, 3000, 8000]))]
        for level in range(seed, 32, 8):
            agree(library, kind, level, [(first, 3000, BASE)], present, [], content)


@st.composite
def places(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges below TOP, ascending and apart."""
    edge = st.integers(0, TOP) | st.integers(SUBWINDOW - 600, SUBWINDOW + 600)
    edges = sorted(draw(st.sets(edge, max_size=8)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@settings(deadline=None, max_examples=120)
@given(
    seed=st.integers(0, 1 << 30),
    kind=st.sampled_from(sorted(LAYOUTS)),
    level=st.integers(0, 31),
    present=places(),
    hands_off=places(),
    piece=st.sampled_from([0, 64, 96, 128, 320, 1024, 4096]),
    budget=st.sampled_from([1, 3, 100, 1 << 15]),
    first=st.sampled_from([0, 1, 512, SUBWINDOW - 1024, SUBWINDOW - 1500, SUBWINDOW]),
    lengths=st.lists(st.tuples(st.integers(1, 900), st.sampled_from([0, 1, 2, 300])), min_size=1, max_size=4),
)
def test_runs_holes_and_ranges_hands_off_agree_with_the_user_engine(
    library: ctypes.CDLL,
    seed: int,
    kind: str,
    level: int,
    present: Ranges,
    hands_off: Ranges,
    piece: int,
    budget: int,
    first: int,
    lengths: Sequence[tuple[int, int]],
) -> None:
    known, draw, content, runs = layout(kind), random.Random(seed), bytearray(), []
    for length, gap in lengths:
        runs.append((first, length, BASE + len(content)))
        content += structures(known, first, length, draw)
        first += length + gap
    agree(library, kind, level, runs, present, hands_off, bytes(content), piece=piece, budget=budget)


def vmcore(kernel: dict[str, str | None], folder: Path) -> str:
    """A vmcore of two sections, full of blocks and damage."""
    builder = VmcoreBuilder(info=kernel)
    with Vmcore.open(builder.save(folder / "plain")) as core:
        known = PageLayout.of(core.info)
    draw = random.Random(1)
    for section in range(2):
        # Not the first pages: there the builder's own tables and page structures lie.
        first = section * SECTION_PAGES + (8192 if section == 0 else 0)
        builder.write(builder.structure_at(first), structures(known, first, 6000, draw))
    return builder.save(folder / "vmcore")


@pytest.mark.parametrize("kernel", [{}, KERNEL_6_12], ids=["6.1", "6.12"])
def test_every_level_agrees_on_a_vmcore(library: ctypes.CDLL, kernel: dict[str, str | None], tmp_path: Path) -> None:
    with Vmcore.open(vmcore(kernel, tmp_path)) as core:
        known = PageLayout.of(core.info)
        memory = core.memory.read(0x100000, core.memory.ranges[-1].end - 0x100000)
        runs = [tuple(run) for run in core.mem_map()]
        present = present_pages(core.memory.stored_ranges, core.page_size)
        hands_off = [(9000, 9100), (SECTION_PAGES + 17, SECTION_PAGES + 2000)]
        for level in range(32):
            bits, counts, bad_orders = by_user_engine(core, level, hands_off)
            got = native.scan(
                library,
                known,
                PageKind(level),
                cast(list[tuple[int, int, int]], runs),
                present,
                hands_off,
                (0, core.max_pfn),
                memory,
                physical=0x100000,
                piece=4096 * (level & 1),
            )
            assert (got.error, got.bad_orders) == (0, bad_orders)
            assert got.counts._replace(examined=0) == counts
            assert got.bits == bits


def odd_ones(known: PageLayout) -> list[tuple[str, bytes]]:
    """A structure of page cache, and others that differ from it in one thing that a rule asks for."""

    def made(flags: int = known.lru, **fields: int) -> bytes:
        page = bytearray(known.size)
        struct.pack_into("<Q", page, known.flags, flags)
        struct.pack_into("<I", page, known.mapcount, fields.pop("mapcount", 0xFFFFFFFF))
        for name, value in fields.items():
            struct.pack_into("<Q", page, getattr(known, name), value)
        return bytes(page)

    odd = [("cache", made()), ("tail", made(compound_head=0xFFFFEA0000000001)), ("anonymous", made(mapping=1))]
    odd += [(f"flag {bit}", made(known.lru ^ 1 << bit)) for bit in range(64)]
    for name in ("buddy_type", "slab_type", "offline_type", "unaccepted_type"):
        if getattr(known, name) is not None:
            odd += [(f"{name} {order}", made(mapcount=getattr(known, name), private=order)) for order in (0, 2, 60)]
    return odd


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("level", [31, 17, 8, 4])
def test_a_row_of_alike_structures_ends_before_one_that_differs(library: ctypes.CDLL, kind: str, level: int) -> None:
    known = layout(kind)
    kinds = odd_ones(known)
    for of_row in [*kinds[:3], ("poisoned", kinds[3 + (known.hwpoison or 1).bit_length() - 1][1]), *kinds[-3:]]:
        content = b"".join(of_row[1] * (40 + at) + odd[1] + of_row[1] * 3 + odd[1] * 2 for at, odd in enumerate(kinds))
        count = len(content) // known.size
        for budget in (7, 1 << 15):
            agree(library, kind, level, [(0, count, BASE)], [(0, count)], [], content, budget=budget)


def test_structures_that_no_map_covers_end_the_walk(library: ctypes.CDLL) -> None:
    known = layout("6.12")
    content = bytes(known.size * 64)
    got = native.scan(library, known, PageKind(31), [(0, 128, BASE)], [(0, 128)], [], (0, 128), content, physical=BASE)
    assert got.error == -6  # ENXIO


def compound_page(kind: str, count: int, head: int, order: int) -> bytes:
    """`count` structures of cache, among them the head of a compound page and, if there is room, its second."""
    known = layout(kind)
    pages = bytearray(count * known.size)
    struct.pack_into("<Q", pages, head * known.size + known.flags, known.head | known.lru)
    if head + 1 < count:
        struct.pack_into("<Q", pages, (head + 1) * known.size + known.compound_head, 1)
        pages[(head + 1) * known.size + (known.second_order or 0)] = order
    return bytes(pages)


@pytest.mark.parametrize("piece", [0, 64, 4096])
def test_head_whose_second_structure_is_not_in_the_vmcore_stands_for_itself(library: ctypes.CDLL, piece: int) -> None:
    content = compound_page("6.12", 64, head=8, order=2)
    agree(library, "6.12", 31, [(0, 64, BASE)], [(0, 9), (10, 64)], [], content, piece=piece)


@pytest.mark.parametrize("piece", [0, 64, 4096])
def test_head_that_is_the_last_of_all_structures_needs_none_behind_it(library: ctypes.CDLL, piece: int) -> None:
    content = compound_page("6.12", 65, head=64, order=0)
    agree(library, "6.12", 31, [(0, 65, BASE)], [(0, 65)], [], content, piece=piece)


@pytest.mark.parametrize("piece", [64, 96, 4096])
def test_head_finds_its_second_structure_in_the_next_piece(library: ctypes.CDLL, piece: int) -> None:
    content = compound_page("6.12", 72, head=64, order=3)
    agree(library, "6.12", 31, [(0, 72, BASE)], [(0, 72)], [], content, piece=piece)
