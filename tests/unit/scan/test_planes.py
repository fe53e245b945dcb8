"""The bulk engine gives, page by page, what the rule book gives."""

from __future__ import annotations

import random
import struct

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan.blocks import WindowVerdict
from kdumpd.scan.planes import WINDOW
from kdumpd.scan.rules import Fate, judge
from kdumpd.scan.windows import WindowJudge
from kdumpd.vmcore.layout import MAX_BLOCK_ORDER, PageLayout
from tests.unit.scan.layouts import TEXTS, layout

FIRST_PFN = 0x40000


def random_window(known: PageLayout, count: int, seed: int) -> bytes:
    """Structures that take every field from the values that rules look at, valid or not."""
    draw = random.Random(seed)
    bits = [known.lru, known.private_flag, known.swapcache, known.swapbacked, known.head, 1 << 9, 1 << 40]
    bits += [known.hwpoison or 0, known.slab_flag or 0]
    types = [known.buddy_type, known.offline_type, known.unaccepted_type, known.slab_type, known.hugetlb_value]
    mapcounts = [0xFFFFFFFF, 0xFFFFFFFF, 0, 1, 0xFFFFFF00, 0xF0000001, *(value for value in types if value is not None)]
    pages = bytearray()
    for _ in range(count):
        page = bytearray(known.size)
        flags = sum({draw.choice(bits) for _ in range(draw.randrange(4))})
        if draw.random() < 0.2:
            flags |= draw.choice([0, 1, 2, 3, 4, 9, 200])  # the order of the compound page whose second page this is
            flags |= draw.choice([0, 1 << 8])
        struct.pack_into("<Q", page, known.flags, flags)
        struct.pack_into(
            "<Q", page, known.compound_head, draw.choice([0, 0, 0, 0xFFFF888000000000, 0xFFFFEA0000000001])
        )
        struct.pack_into("<B", page, 16, draw.choice([0, 2, 3]))
        struct.pack_into("<B", page, 17, draw.choice([0, 1, 2, 9, 200]))
        struct.pack_into("<Q", page, known.mapping, draw.choice([0, 0xFFFF888000000000, 0xFFFF888000000001, 3]))
        struct.pack_into("<Q", page, known.private, draw.choice([0, 0, 1, 2, 3, 10, 11, 1 << 40]))
        struct.pack_into("<I", page, known.mapcount, draw.choice(mapcounts))
        pages += page
    return bytes(pages)


def by_page(verdict: WindowVerdict, count: int) -> list[int]:
    return list(verdict.fates.to_bytes(count, "little"))


def walk(known: PageLayout, level: PageKind, window: bytes) -> tuple[list[int], int]:
    """The fates by the rule book, one page after the other, and the reach of the last block."""
    size = known.size
    count = len(window) // size
    fates: list[int] = []
    reach = 0
    while len(fates) < count:
        at = len(fates)
        pages = window[at * size : (at + 2) * size]
        verdict = judge(known, level, FIRST_PFN + at, pages[:size], pages[size:])
        if verdict.order:
            reach = at + (1 << verdict.order)
        fates += [verdict.fate] * (1 << verdict.order)
    return fates[:count], reach


@pytest.mark.parametrize("kernel", TEXTS)
@pytest.mark.parametrize("level", range(32))
def test_every_level_agrees_with_the_rule_book(kernel: str, level: int) -> None:
    known = layout(kernel)
    window = random_window(known, 1024, seed=level)
    verdict = WindowJudge(known, PageKind(level)).judge(FIRST_PFN, window)
    fates, reach = walk(known, PageKind(level), window)
    assert by_page(verdict, 1024) == fates
    assert verdict.reach == reach


@pytest.mark.parametrize("seed", range(20))
def test_level_31_agrees_on_small_and_odd_windows(seed: int) -> None:
    known = layout("6.12")
    window = random_window(known, 2 + 7 * seed, seed)
    verdict = WindowJudge(known, PageKind(31)).judge(FIRST_PFN, window)
    assert by_page(verdict, 2 + 7 * seed) == walk(known, PageKind(31), window)[0]


@pytest.mark.parametrize("kernel", TEXTS)
@pytest.mark.parametrize("count", [1, 2, 7, 64, 333])
def test_structure_behind_a_window_is_as_good_as_one_in_it(kernel: str, count: int) -> None:
    known = layout(kernel)
    for seed in range(30):
        window = random_window(known, count + 1, seed)
        inside, after = window[: -known.size], window[-known.size :]
        verdict = WindowJudge(known, PageKind(31)).judge(FIRST_PFN, inside, after)
        fates, _ = walk(known, PageKind(31), window)
        assert by_page(verdict, count) == fates[:count]


def page(known: PageLayout, **fields: int) -> bytes:
    made = bytearray(known.size)
    struct.pack_into("<I", made, known.mapcount, fields.get("mapcount", 0xFFFFFFFF))
    struct.pack_into("<Q", made, known.flags, fields.get("flags", 0))
    struct.pack_into("<Q", made, known.private, fields.get("private", 0))
    struct.pack_into("<Q", made, known.mapping, fields.get("mapping", 0))
    return bytes(made)


def test_free_block_reaches_beyond_its_window() -> None:
    known = layout("6.1")
    window = page(known) * 62 + page(known, mapcount=0xFFFFFF7F, private=10) + page(known)
    start = 1024 - 62
    verdict = WindowJudge(known, PageKind.FREE).judge(start, window)
    assert (verdict.reach, verdict.reach_fate) == (62 + 1024, Fate.FREE)
    assert by_page(verdict, 64) == [Fate.KEEP] * 62 + [Fate.FREE] * 2


@pytest.mark.parametrize(("order", "pfn"), [(11, 0), (1 << 40, 0), (3, 4)])
def test_free_block_of_an_impossible_order_is_kept_and_counted(order: int, pfn: int) -> None:
    known = layout("6.1")
    window = page(known, mapcount=0xFFFFFF7F, private=order) + page(known)
    verdict = WindowJudge(known, PageKind.FREE).judge(pfn, window)
    assert by_page(verdict, 2) == [Fate.KEEP, Fate.KEEP]
    assert verdict.bad_orders == 1


@pytest.mark.parametrize(("pfn", "fate"), [(1024, Fate.FREE), (1024 + 512, Fate.KEEP)])
def test_unaccepted_block_that_is_not_aligned_is_kept_and_counted(pfn: int, fate: Fate) -> None:
    known = layout("7.1")
    window = page(known, mapcount=known.unaccepted_type or 0) + page(known)
    verdict = WindowJudge(known, PageKind.FREE).judge(pfn, window)
    assert by_page(verdict, 2) == [fate, fate]
    assert verdict.bad_orders == (fate is Fate.KEEP)
    assert judge(known, PageKind.FREE, pfn, window[: known.size], b"").bad_order == (fate is Fate.KEEP)


def test_compound_page_above_the_largest_order_stands_for_itself_alone() -> None:
    known = layout("6.12")
    assert MAX_BLOCK_ORDER < 32  # whose bit in the second page is no flag that a rule looks at
    window = page(known, flags=known.head | known.lru) + page(known, flags=32)
    verdict = WindowJudge(known, PageKind(31)).judge(0, window)
    assert by_page(verdict, 2) == [Fate.CACHE, Fate.KEEP]


def test_anonymous_page_with_waiters_is_user_data_where_slab_is_a_page_type() -> None:
    known = layout("6.12")
    window = page(known, flags=1 << 7, mapping=0xFFFF888000000001, mapcount=0) * 2
    assert by_page(WindowJudge(known, PageKind.USER).judge(0, window), 2) == [Fate.USER] * 2


def test_classes_that_vmcoreinfo_does_not_tell_are_kept_and_named() -> None:
    known = layout("6.1", without="BUDDY")
    window = page(known, mapcount=0xFFFFFF7F, private=10) * 8
    assert not WindowJudge(known, PageKind(31)).judge(0, window).fates
    assert any("free pages are kept" in line for line in known.unknown)


def test_full_window_is_judged() -> None:
    known = layout("7.1")
    window = random_window(known, 64, 1) * (WINDOW // 64)
    verdict = WindowJudge(known, PageKind(31)).judge(FIRST_PFN, window)
    assert by_page(verdict, WINDOW) == walk(known, PageKind(31), window)[0]
