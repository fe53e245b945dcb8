"""Page structures as a machine has them, drawn by a seed, and the kinds of layouts that the module has to know."""

from __future__ import annotations

import random
import struct

from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo
from tests.unit.scan.layouts import TEXTS
from tests.unit.scan.test_planes import random_window


def _without(kernel: str, word: str) -> str:
    return "\n".join(line for line in TEXTS[kernel].splitlines() if word not in line)


# Real kernels, other configurations, and VMCOREINFOs that do not tell all.
LAYOUTS = {
    **TEXTS,
    "6.1 of 56 bytes": TEXTS["6.1"].replace("SIZE(page)=64", "SIZE(page)=56"),
    "6.6 of 96 bytes": TEXTS["6.6"].replace("SIZE(page)=64", "SIZE(page)=96"),
    "6.12 without slab": _without("6.12", "SLAB"),
    "6.1 without private": _without("6.1", "NUMBER(PG_private)"),
    "6.9 without free": _without("6.9", "free_area"),
    "6.9 with unaccepted": TEXTS["6.9"] + "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-4097\n",
    "6.1 without order": _without("6.1", "compound_order"),
    "6.1 without hugetlb": _without("6.1", "HUGETLB"),
    "6.6 without poison": _without("6.6", "hwpoison"),
    "7.1 of large blocks": TEXTS["7.1"].replace("free_area)=11", "free_area)=19"),
    "6.1 of impossible blocks": TEXTS["6.1"].replace("free_area)=11", "free_area)=20"),
}


def layout(kind: str) -> PageLayout:
    """One of LAYOUTS."""
    return PageLayout.of(VmcoreInfo(LAYOUTS[kind].encode()))


def structures(known: PageLayout, first_pfn: int, count: int, draw: random.Random) -> bytes:
    """`count` structures from that of `first_pfn` on: blocks, between them pages of all kinds; some of it damaged."""
    size = known.size
    made = bytearray(random_window(known, count, draw.randrange(1 << 30)))
    plain = bytearray(size)
    struct.pack_into("<I", plain, known.mapcount, 0xFFFFFFFF)
    at = 0
    while at < count:
        pfn = first_pfn + at
        largest = min((pfn & -pfn).bit_length() - 1 if pfn else 18, 18)
        order = draw.choice([0, 0, 1, 2, 3, 4, 6, 7, 9, 10, largest])
        order = min(order, largest) if draw.random() < 0.95 else order
        length = min(1 << order, count - at)
        kind = draw.choice(("anything", "free", "compound", "plain"))
        if kind == "free" and known.buddy_type is not None:
            _free(known, made, at, order)
        elif kind == "compound":
            _compound(known, made, at, length, order, draw)
        elif kind == "plain":
            made[at * size : (at + length) * size] = plain * length
        at += length
    return bytes(made)


def _free(known: PageLayout, made: bytearray, at: int, order: int) -> None:
    start = at * known.size
    struct.pack_into("<Q", made, start + known.flags, 0)
    struct.pack_into("<Q", made, start + known.compound_head, 0)
    struct.pack_into("<I", made, start + known.mapcount, known.buddy_type or 0)
    struct.pack_into("<Q", made, start + known.private, order)


def _compound(known: PageLayout, made: bytearray, at: int, length: int, order: int, draw: random.Random) -> None:
    """A compound page of `order`; its structures as far as `length`."""
    size, poison = known.size, known.hwpoison or 0
    flags = known.head | draw.choice([known.lru, known.lru | known.private_flag, 0, known.slab_flag or 0])
    head = at * size
    struct.pack_into("<Q", made, head + known.flags, flags | poison * (draw.random() < 0.1))
    struct.pack_into("<Q", made, head + known.compound_head, 0)
    struct.pack_into("<Q", made, head + known.mapping, draw.choice([0, 0xFFFF888000000001]))
    struct.pack_into("<I", made, head + known.mapcount, draw.choice([0, 0xFFFFFFFF, known.hugetlb_value]))
    for page in range(at + 1, at + length):
        struct.pack_into("<Q", made, page * size + known.flags, poison * (draw.random() < 0.01))
        struct.pack_into("<Q", made, page * size + known.compound_head, 0xFFFFEA0000000001)
    if length > 1:
        second = head + size
        if known.second_order is not None:
            made[second + known.second_order] = order
        if known.second_dtor is not None:
            made[second + known.second_dtor] = draw.choice([1, known.hugetlb_value])
