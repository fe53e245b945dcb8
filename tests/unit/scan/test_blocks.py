"""Windows full of blocks: what all of them cover at once is what the rule book says of one after the other."""

from __future__ import annotations

import random

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan.blocks import Blocks
from kdumpd.scan.planes import Planes
from kdumpd.scan.rules import Fate, judge
from kdumpd.scan.windows import MANY, WindowJudge
from kdumpd.vmcore.layout import HugetlbMark, PageLayout
from tests.unit.scan.layouts import TEXTS, layout
from tests.unit.scan.test_planes import FIRST_PFN, by_page, page, walk

PAGES = 2048
SMALL = (0, 0, 1, 1, 2, 3)
SORTS = ("free", "user", "cache", "private", "kernel")


def block(known: PageLayout, sort: str, order: int) -> bytes:
    """The structures of a block as the kernel leaves them."""
    if sort == "free":
        return page(known, mapcount=known.buddy_type or 0, private=order) + page(known) * ((1 << order) - 1)
    flags = {"user": 0, "cache": known.lru, "private": known.lru | known.private_flag, "kernel": 0}[sort]
    mapping = 0xFFFF888000000001 if sort == "user" else 0xFFFF888000000000
    head = bytearray(page(known, flags=flags | (known.head if order else 0), mapping=mapping))
    if not order:
        return bytes(head)
    tail = bytearray(page(known))
    tail[known.compound_head] = 1
    second = bytearray(tail)
    second[known.second_order or 0] = order
    return bytes(head + second + tail * ((1 << order) - 2))


def blocks(known: PageLayout, seed: int, orders: tuple[int, ...] = SMALL) -> bytes:
    """A window of aligned blocks, none in another."""
    draw = random.Random(seed)
    made = bytearray()
    while len(made) < PAGES * known.size:
        order = draw.choice(orders)
        while len(made) // known.size % (1 << order):
            order -= 1
        made += block(known, draw.choice(SORTS), order)
    return bytes(made[: PAGES * known.size])


def agrees(known: PageLayout, window: bytes, level: int = 31, first_pfn: int = FIRST_PFN) -> None:
    """The verdict is what the rule book says, page after page, bad orders and the last block's end too."""
    size, count = known.size, len(window) // known.size
    fates: list[int] = []
    reach = bad_orders = 0
    while len(fates) < count:
        at = len(fates)
        pages = window[at * size : (at + 2) * size]
        verdict = judge(known, level, first_pfn + at, pages[:size], pages[size:])
        bad_orders += verdict.bad_order
        if verdict.order:
            reach = at + (1 << verdict.order)
        fates += [verdict.fate] * (1 << verdict.order)
    found = WindowJudge(known, PageKind(level)).judge(first_pfn, window)
    assert by_page(found, count) == fates[:count]
    assert (found.reach, found.bad_orders) == (reach, bad_orders)


@pytest.mark.parametrize("kernel", TEXTS)
@pytest.mark.parametrize("seed", range(8))
def test_blocks_side_by_side(kernel: str, seed: int) -> None:
    known = layout(kernel)
    agrees(known, blocks(known, seed))
    agrees(known, blocks(known, seed, (1, 2, 3, 4, 5)), PageKind.USER | PageKind.CACHE)


@pytest.mark.parametrize("seed", range(8))
def test_windows_that_start_anywhere(seed: int) -> None:
    known = layout("6.12")
    start = 1 + 37 * seed
    agrees(known, blocks(known, seed)[start * known.size :], first_pfn=FIRST_PFN + start)


@pytest.mark.parametrize("seed", range(20))
def test_orders_that_cannot_be_and_blocks_in_blocks(seed: int) -> None:
    known = layout("6.1")
    draw = random.Random(seed)
    window = bytearray(blocks(known, seed))
    for _ in range(draw.randrange(1, 40)):
        sort, order = draw.choice(("free", "cache")), draw.choice((1, 2, 3, 4, 12, 19, 200))
        head = block(known, sort, 1)[: 2 * known.size]
        at = draw.randrange(PAGES - 1) * known.size
        window[at : at + len(head)] = head
        if sort == "free":
            window[at + known.private] = order
            window[at + known.private + draw.randrange(8)] |= draw.choice((0, 0, 1))
        else:
            window[at + known.size + (known.second_order or 0)] = order
    agrees(known, bytes(window))


def test_last_block_reaches_beyond_the_window() -> None:
    known = layout("6.1")
    window = block(known, "free", 0) * (PAGES - 2) + block(known, "cache", 1)
    first = PAGES - 2
    window = window[: first * known.size] + block(known, "free", 1)[: 2 * known.size]
    window = window[: -2 * known.size] + block(known, "free", 10)[: 2 * known.size]
    verdict = WindowJudge(known, PageKind(31)).judge(1024 - first % 1024, window)
    assert (verdict.reach, verdict.reach_fate, verdict.bad_orders) == (first + 1024, Fate.FREE, 0)


def test_many_blocks_are_not_looked_at_one_by_one() -> None:
    known = layout("6.12")
    assert known.hugetlb is HugetlbMark.PAGE_TYPE
    window = blocks(known, 1)
    planes = Planes(known, window, 0, PAGES)
    free = planes.of_type(known.buddy_type or 0, planes.ones)
    assert free.bit_count() > MANY + PAGES // MANY
    verdict = Blocks(known, FIRST_PFN, planes, free * Fate.FREE, free, 0, b"").at_once()
    assert verdict is not None
    assert by_page(verdict, PAGES) == walk(known, PageKind.FREE, window)[0]
