"""Page bitmaps as KDUMP has them (least significant bit first): from ranges to bits, and from bits to runs of pages.

No loop here runs over single pages: bits become runs by searching text, and sums come from big integers.
May import nothing of kdumpd.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

WINDOW = 1 << 16  # bytes of a bitmap that are read or written at once
STEP = 1 << 10  # bytes of it that are turned to text at once; text takes a byte a page

ZEROS = bytes(WINDOW)

Run = tuple[int, int]  # (first page frame, number of page frames); plain, since a dump has millions of them


def count(bits: bytes) -> int:
    """How many pages are set."""
    if ZEROS.startswith(bits):
        return 0
    return int.from_bytes(bits, "little").bit_count()


def of_runs(runs: Iterable[Run], frames: int) -> Iterator[bytes]:
    """The bitmap of `frames` page frames with these (ascending) runs set, in windows; the last is padded to a byte."""
    pending = iter(runs)
    run = next(pending, None)
    for start in range(0, frames, WINDOW * 8):
        end = min(start + WINDOW * 8, frames)
        if run is None or run[0] >= end:
            yield ZEROS[: -(-(end - start) // 8)]
            continue
        bits = 0
        while run is not None and run[0] < end:
            first, last = max(run[0], start), min(run[0] + run[1], end)
            if first < last:
                bits |= ((1 << (last - first)) - 1) << (first - start)
            if run[0] + run[1] > end:
                break
            run = next(pending, None)
        yield bits.to_bytes(-(-(end - start) // 8), "little")


def runs(bits: bytes, first: int) -> Iterator[Run]:
    """The runs of set pages; bit 0 of `bits` is page frame `first`. Runs end at multiples of `8 * STEP` frames."""
    if ZEROS.startswith(bits):
        return
    position = 0
    while position < len(bits):
        clear = len(bits) - position - len(bits[position:].lstrip(b"\0"))
        position += clear
        text = bin(int.from_bytes(bits[position : position + STEP], "little"))[:1:-1]
        base = first + position * 8
        start = text.find("1")
        while start >= 0:
            end = text.find("0", start)
            if end < 0:
                end = len(text)
            yield base + start, end - start
            start = text.find("1", end)
        position += STEP
