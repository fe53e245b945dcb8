"""Marks and amounts of the memory that a rehearsal fills."""

from __future__ import annotations

import json

from kdumpd.rehearse.guest import Orders
from kdumpd.rehearse.guestdisks import GuestDisk
from kdumpd.rehearse.workload import PAGE, Kind, amounts, mark, marked_page, nonce_page


def test_every_kind_has_a_mark_of_its_own_that_another_rehearsal_does_not_have() -> None:
    marks = {mark(nonce, kind) for nonce in ("a", "b") for kind in Kind}
    assert len(marks) == 2 * len(Kind)


def test_a_marked_page_is_a_page_that_begins_with_its_mark() -> None:
    for kind in Kind:
        page = marked_page("nonce", kind)
        assert len(page) == PAGE
        assert page.startswith(mark("nonce", kind))
    assert len(nonce_page("nonce")) == PAGE


def test_amounts_leave_most_of_the_machine_free_and_are_whole_blocks() -> None:
    for memory in (1 << 30, 2 << 30, 16 << 30):
        pages = amounts(memory)
        assert set(pages) == set(Kind)
        assert 0 < sum(pages.values()) * PAGE < memory // 3
        assert all(count % 16 == 0 for count in pages.values())
        assert pages[Kind.HUGETLB] % 512 == 0


def test_orders_survive_the_way_into_the_guest() -> None:
    orders = Orders(
        nonce="n",
        panic="sysrq",
        modules=("/a.ko",),
        disks=(
            GuestDisk("UUID=b3a1", "/targets/0", read_only=False, free=None, made=("/var/crash",), layers=("LVM",)),
        ),
        scratch="UUID=5c",
        load={"slab": 16},
        policy="{}",
        targets="{}",
        overlay="{}",
        capture_words=("earlyprintk",),
    )
    assert Orders.from_json(orders.to_json()) == orders
    json.loads(orders.to_json())
