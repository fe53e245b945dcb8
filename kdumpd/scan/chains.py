"""Free blocks of the largest order, one behind the other, as most of an idle machine's memory is: looked at together.

Of the head of each block the few words that a rule asks for are taken by strided slices and compared as one number, so
that a look at sixty blocks costs little more than one at a single block. Called by `scan.user`. May import
`scan.planes` and `vmcore.layout`.
"""

from __future__ import annotations

from kdumpd.scan.planes import Buffer
from kdumpd.vmcore.layout import PageLayout

MOST = 1024  # blocks looked at together
_ONES = sum(1 << 64 * lane for lane in range(MOST))


class Chains:
    """Finds how many blocks follow, by one layout that tells free pages."""

    def __init__(self, layout: PageLayout) -> None:
        largest = layout.free_orders - 1
        high = 32 * (layout.mapcount // 4 % 2)  # bits below _mapcount in its word
        # Of a structure's words: where it lies, the bits of it that matter, and what they have to be.
        self._words = [
            (layout.mapcount & -8, 0xFFFFFFFF << high, (layout.buddy_type or 0) << high),
            (layout.private, (1 << 64) - 1, largest),
            (layout.compound_head, 1, 0),
        ]
        if layout.slab_flag is not None:
            self._words.append((layout.flags, layout.slab_flag, 0))
        self._size = layout.size
        self._stride = layout.size << largest
        self._wanted: list[tuple[int, int, int]] = []  # the same for `_count` blocks
        self._count = 0

    def length(self, content: Buffer, start: int, end: int, most: int) -> int:
        """How many free blocks of the largest order follow each other, at most `most`.

        The structure of the first block's head is at `start` of `content`, which holds structures up to `end`.
        """
        stride = self._stride
        count = min((end - start - self._size) // stride + 1, most, MOST)
        if count < 1:
            return 0
        if count != self._count:
            ones, self._count = _ONES & (1 << 64 * count) - 1, count
            self._wanted = [(offset, mask * ones, value * ones) for offset, mask, value in self._words]
        differs = 0
        with memoryview(content) as octets:
            for offset, mask, value in self._wanted:
                first = start + offset
                with octets[first : first + (count - 1) * stride + 8] as part, part.cast("Q") as words:
                    differs |= (int.from_bytes(words[:: stride // 8].tobytes(), "little") ^ value) & mask
        return ((differs & -differs).bit_length() - 1) // 64 if differs else count
