"""Free blocks of the largest order that follow each other: counted together as they would be one by one."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.scan.chains import MOST, Chains
from kdumpd.scan.rules import Fate, judge
from kdumpd.scan.selection import Interval
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.vmcore import Vmcore
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo
from tests.builders.vmcore import MIB, VmcoreBuilder
from tests.unit.scan.layouts import TEXTS
from tests.unit.scan.sinks import Bits

ORDERS = 7  # blocks of 64 pages: small enough for many of them
LEVEL = int(PageKind(31))


def layout(kernel: str, more: str = "") -> PageLayout:
    text = TEXTS[kernel].replace("free_area)=11", f"free_area)={ORDERS}") + more
    return PageLayout.of(VmcoreInfo(text.encode()))


def head(known: PageLayout, **fields: int) -> bytes:
    """The head of a free block of the largest order, but for these fields."""
    page = bytearray(known.size)
    for name, value in {"private": ORDERS - 1, "compound_head": 0xFFFFEA0000000008, **fields}.items():
        if name != "mapcount":
            struct.pack_into("<Q", page, getattr(known, name), value)
    struct.pack_into("<I", page, known.mapcount, fields.get("mapcount", known.buddy_type or 0))
    return bytes(page)


def odd_heads(known: PageLayout) -> list[bytes]:
    """Heads that differ from a free block's in one thing, or in something that no rule asks for."""
    odd = [head(known, mapcount=(known.buddy_type or 0) ^ 1 << bit) for bit in range(0, 32, 5)]
    odd += [head(known, private=(ORDERS - 1) ^ 1 << bit) for bit in (0, 1, 2, 8, 31, 32, 63)]
    odd += [head(known, flags=1 << bit) for bit in range(64)]
    return [*odd, head(known, compound_head=0xFFFFEA0000000009), head(known, mapping=1), head(known, mapping=8)]


def one_by_one(known: PageLayout, content: bytes, start: int) -> int:
    """How many follow, by the rule book."""
    stride, found = known.size << ORDERS - 1, 0
    while start + known.size <= len(content):
        page = content[start : start + known.size]
        if judge(known, LEVEL, 0, page, b"")[:2] != (Fate.FREE, ORDERS - 1):
            break
        found, start = found + 1, start + stride
    return found


@pytest.mark.parametrize("kernel", TEXTS)
def test_chain_ends_where_the_rule_book_ends_it(kernel: str) -> None:
    known = layout(kernel)
    chains, stride = Chains(known), known.size << ORDERS - 1
    for number, odd in enumerate(odd_heads(known)):
        heads = [head(known)] * (number % 13) + [odd] + [head(known)] * 3
        content = b"".join(one.ljust(stride, b"\0") for one in heads)
        for start in (0, stride):
            expected = one_by_one(known, content, start)
            assert chains.length(content, start, len(content), 1000) == expected
            assert chains.length(content, start, len(content), 2) == min(expected, 2)


def test_chain_ends_with_what_is_mapped_and_with_what_is_asked_for() -> None:
    known = layout("6.1")
    chains, stride = Chains(known), known.size << ORDERS - 1
    content = head(known).ljust(stride, b"\0") * (MOST + 5)
    assert chains.length(content, 0, len(content), 10**6) == MOST
    assert chains.length(content, 5 * stride, len(content), 10**6) == MOST
    assert chains.length(content, 6 * stride, len(content), 10**6) == MOST - 1
    for end, blocks in ((0, 0), (known.size - 1, 0), (known.size, 1), (stride, 1), (stride + known.size, 2)):
        assert chains.length(content, 0, end, 10**6) == blocks
    for most in (-1, 0, 1, 3):
        assert chains.length(content, 0, len(content), most) == max(most, 0)


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_chains_of_mapped_memory_change_nothing(kernel: str, tmp_path: Path) -> None:
    builder = VmcoreBuilder(
        ((0x1000, 0x9F000), (MIB, 700 * MIB), (710 * MIB, 1000 * MIB)), info={"LENGTH(zone.free_area)": str(ORDERS)}
    )
    draw = random.Random(kernel)
    for pfn in range(64 << 4, 1000 * 256, 64):
        if draw.random() < 0.97:
            builder.page(pfn, _mapcount=-129, private=ORDERS - 1)
    for _ in range(40):
        builder.page(draw.randrange(1000 * 256) & -64, _mapcount=-129, private=draw.randrange(ORDERS + 2))
        builder.page(draw.randrange(1000 * 256) & -64, _mapcount=-129, private=ORDERS - 1, flags=1 << 9)
    path = builder.save(tmp_path / "vmcore")
    found = []
    for mapped in (False, True):
        bits = Bits()
        with Vmcore.open(path) as core:
            core.memory._mapped = mapped
            counts = user.scan(core, PageKind(31), (Interval(0x8000, 0x8123),), bits)
        found.append((bytes(bits.content), counts))
    assert found[0] == found[1]
    assert found[0][1].free > 200_000
