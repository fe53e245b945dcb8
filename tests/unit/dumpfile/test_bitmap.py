"""Bits to runs and back, held against a loop over single bits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdumpd.dumpfile import bitmap

PIECES = st.lists(
    st.tuples(st.sampled_from((b"\0", b"\xff", b"\x01", b"\x80", b"\xa5")), st.integers(1, 1500)), max_size=6
)


@given(PIECES, st.integers(0, 1 << 40))
def test_runs_hold_exactly_the_set_bits(pieces: list[tuple[bytes, int]], first: int) -> None:
    bits = b"".join(byte * count for byte, count in pieces)
    frames = [frame for start, count in bitmap.runs(bits, first) for frame in range(start, start + count)]
    assert frames == [first + bit for bit in range(len(bits) * 8) if bits[bit // 8] >> bit % 8 & 1]
    assert bitmap.count(bits) == len(frames)


@given(st.lists(st.tuples(st.integers(0, 600_000), st.integers(1, 300_000)), max_size=4), st.integers(1, 1_200_000))
def test_a_bitmap_of_runs_has_their_bits_and_ends_with_the_last_page_frame(
    gaps: list[tuple[int, int]], frames: int
) -> None:
    runs, position = [], 0
    for gap, count in gaps:
        first = position + gap + 1
        runs.append((first, count))
        position = first + count
    windows = list(bitmap.of_runs(runs, frames))
    assert all(len(window) == bitmap.WINDOW for window in windows[:-1])
    bits = int.from_bytes(b"".join(windows), "little")
    expected = 0
    for first, count in runs:
        expected |= ((1 << count) - 1) << first
    assert bits == expected & ((1 << frames) - 1)
    assert sum(map(len, windows)) == -(-frames // 8)
