"""A page-scan module of Python: it speaks the small protocol of scan.device and decides page by page by scan.rules.

It knows the crashed kernel from the packed requests and from the memory that was mapped, nothing else, and refuses what
the module would refuse.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from kdumpd.errors import ScanError
from kdumpd.policy.model import PageKind
from kdumpd.scan import requests
from kdumpd.scan.device import Gathered, Leaves, Mapped, Window
from kdumpd.scan.requests import HUGETLB, Strategy
from kdumpd.scan.rules import Fate, judge
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.memory import Memory, Range

_MARKS = {value: mark for mark, value in HUGETLB.items()}


def unpacked(packed: bytes) -> PageLayout:
    """The layout that a request carries."""
    raw = requests.Layout._make(requests.LAYOUT.unpack(packed))

    def fact(value: int) -> int | None:
        return None if value == requests.UNKNOWN else value

    return PageLayout(
        size=raw.size,
        flags=raw.flags,
        mapping=raw.mapping,
        mapcount=raw.mapcount,
        private=raw.private_offset,
        compound_head=raw.compound_head,
        lru=raw.lru,
        private_flag=raw.private_flag,
        swapcache=raw.swapcache,
        swapbacked=raw.swapbacked,
        head=raw.head,
        hwpoison=raw.hwpoison or None,
        slab_flag=raw.slab_flag or None,
        slab_type=fact(raw.slab_type),
        buddy_type=fact(raw.buddy_type),
        offline_type=fact(raw.offline_type),
        unaccepted_type=fact(raw.unaccepted_type),
        free_orders=raw.free_orders,
        second_order=fact(raw.second_order),
        hugetlb=_MARKS[raw.hugetlb],
        hugetlb_value=raw.hugetlb_value,
        second_dtor=fact(raw.second_dtor),
        tellable=PageKind(31),
        unknown=(),
    )


class FakeDevice:
    """The module over the memory of a vmcore. `before` is called with the name of each request and how many came."""

    def __init__(self, memory: Memory, before: Callable[[str, int], None] = lambda request, number: None) -> None:
        self.maps: dict[int, list[Range]] = {}
        self.asked: dict[str, int] = {}
        self.mapped: list[tuple[Strategy, int, list[Range]]] = []
        self.closed = False
        self._memory = memory
        self._before = before
        self._last = 0

    def map(self, ranges: Iterable[Range], strategy: Strategy, page_shift: int) -> Mapped:
        self._ask("map")
        wanted = list(ranges)
        assert wanted
        assert all(start < end and not start % 4096 and not end % 4096 for start, end in wanted)
        assert all(one.end < other.start for one, other in pairwise(wanted))
        assert len(self.maps) < 8
        self._last += 1
        self.maps[self._last] = wanted
        self.mapped.append((strategy, page_shift, wanted))
        return Mapped(self._last, Leaves(0, len(wanted), 0), 4096 * len(wanted))

    def scan(
        self, mapped: int, layout: bytes, level: int, window: Window, bitmap: array[int], timeout: int
    ) -> requests.Scan:
        self._ask("scan")
        first, end = window.first, window.end
        assert first % (1 << requests.WINDOW_ORDER) == 0
        assert len(bitmap) * 8 >= end - first
        runs = _elements(window.runs, 3)
        present = _elements(window.present, 2)
        hands_off = _elements(window.hands_off, 2)
        for elements in ([(run[0], run[0] + run[1]) for run in runs], present, hands_off):
            assert all(start < end and stop > first for start, stop in elements)
            assert all(one[1] <= other[0] for one, other in pairwise(elements))
        fates = bytearray([Fate.KEEP]) * (end - first)
        examined = bad_orders = 0
        known, position = unpacked(layout), first
        for run in runs:
            for pfn, stop in _present_in(run, present, first, end):
                if pfn < position:
                    continue
                place = run[2] + (pfn - run[0]) * known.size
                page = self._read(mapped, place, known.size)
                is_head = int.from_bytes(page[known.flags : known.flags + 8], "little") & known.head
                second = self._read(mapped, place + known.size, known.size) if is_head and pfn + 1 < stop else b""
                verdict = judge(known, level, pfn, page, second)
                examined += 1
                bad_orders += verdict.bad_order
                position = pfn + (1 << verdict.order)
                reach = min(position, end)
                if verdict.fate:
                    fates[pfn - first : reach - first] = bytes([verdict.fate]) * (reach - pfn)
                else:
                    position = pfn + 1
        return _answer(fates, window, present, hands_off, bitmap)._replace(examined=examined, bad_orders=bad_orders)

    def gather(
        self,
        mapped: int,
        page_size: int,
        first: int,
        bitmap: array[int],
        buffer: array[int],
        used: int,
        zero: array[int],
    ) -> Gathered:
        self._ask("gather")
        bits = int.from_bytes(bitmap, "little")
        pages = copied = zeros = 0
        for pfn in range(first, first + 8 * len(bitmap)):
            if not bits >> pfn - first & 1:
                continue
            start = pfn * page_size
            if not self._covers(mapped, start, page_size):
                break
            page = self._memory.read(start, page_size)
            if not any(page):
                zeros |= 1 << pages
            elif used + page_size > len(buffer):
                break
            else:
                buffer[used : used + page_size] = array("B", page)
                used += page_size
                copied += 1
            pages += 1
        else:
            pfn = first + 8 * len(bitmap)
        zero[: len(zero)] = array("B", zeros.to_bytes(len(zero), "little"))
        return Gathered(pages, copied, pfn)

    def unmap(self, mapped: int) -> None:
        self._ask("unmap")
        del self.maps[mapped]

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def _ask(self, request: str) -> None:
        assert not self.closed
        self.asked[request] = self.asked.get(request, 0) + 1
        self._before(request, self.asked[request])

    def _covers(self, mapped: int, start: int, size: int) -> bool:
        return any(lower <= start and start + size <= upper for lower, upper in self.maps[mapped])

    def _read(self, mapped: int, start: int, size: int) -> bytes:
        if not self._covers(mapped, start, size):
            raise ScanError("fake: page structures lie in old memory that is not mapped")
        return self._memory.read(start, size)


def _elements(words: array[int], count: int) -> list[tuple[int, ...]]:
    assert len(words) % count == 0
    return [tuple(words[at : at + count]) for at in range(0, len(words), count)]


def _present_in(
    run: tuple[int, ...], present: list[tuple[int, ...]], first: int, end: int
) -> Iterator[tuple[int, int]]:
    """The present page frames of a run, each with where those around it end."""
    for start, stop in present:
        lower, upper = max(run[0], start, first), min(run[0] + run[1], stop)
        for pfn in range(lower, min(upper, end)):
            yield pfn, upper


def _answer(
    fates: bytearray,
    window: Window,
    present: list[tuple[int, ...]],
    hands_off: list[tuple[int, ...]],
    bitmap: array[int],
) -> requests.Scan:
    """Lay over what lies over all, fill the bitmap and count."""
    first, end = window.first, window.end
    for start, stop in hands_off:
        start, stop = max(start, first), min(stop, end)
        fates[start - first : stop - first] = bytes([Fate.HANDS_OFF]) * (stop - start)
    final = bytearray([Fate.HOLE]) * (end - first)
    for start, stop in present:
        start, stop = max(start, first) - first, min(stop, end) - first
        final[start:stop] = fates[start:stop]
    kept = (end - first + 7) // 8
    bitmap[:kept] = array("B", bytes(kept))
    for start, stop in present:
        for at in range(max(start, first) - first, min(stop, end) - first):
            if not final[at]:
                bitmap[at >> 3] |= 1 << (at & 7)
    nothing = requests.Scan(*[0] * 17)
    return nothing._replace(
        total=len(final) - final.count(Fate.HOLE),
        kept=final.count(Fate.KEEP),
        cache=final.count(Fate.CACHE),
        cache_private=final.count(Fate.CACHE_PRIVATE),
        user=final.count(Fate.USER),
        free=final.count(Fate.FREE),
        hwpoison=final.count(Fate.HWPOISON),
        offline=final.count(Fate.OFFLINE),
        hands_off_pages=final.count(Fate.HANDS_OFF),
    )
