"""VMCOREINFO looked for in the crashed kernel's memory, for vmcores that came without the note.

QEMU's `dump-guest-memory` has it only where the guest loaded qemu_fw_cfg; every kernel keeps the whole note at the
start of a page of its own (kernel/vmcore_info.c, vmcoreinfo_note). Called by `vmcore.vmcore`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kdumpd.vmcore.memory import WINDOW, Memory
from kdumpd.vmcore.notes import NOTE, padded

_NAME = b"VMCOREINFO\0\0"
_ALIGNMENT = 4096
_MOST_BYTES = 64 << 10  # of the note: a kernel's page at most
_MOST_NOTES = 64  # that look like one: kernels that ran before, copies of files
_MOST_MEMORY = 64 << 30  # bytes searched: minutes


def notes_in_memory(memory: Memory) -> Iterator[bytes]:
    """Yield whole notes in memory that look like the kernel's, at most 64 of them, lowest address first.

    A kernel that ran before may have left its own: the caller has to check which is true.
    """
    searched = found = 0
    for start, end in memory.ranges:
        for at in range(start & -WINDOW, end, WINDOW):
            first, last = max(at, start), min(at + WINDOW, end)
            if searched > _MOST_MEMORY:
                return
            searched += last - first
            for note in _in_window(memory, first, memory.view(first, last - first)):
                yield note
                found += 1
                if found == _MOST_NOTES:
                    return


def _in_window(memory: Memory, first: int, window: bytes) -> Iterator[bytes]:
    place = window.find(_NAME)
    while place >= 0:
        physical = first + place - NOTE.size
        if physical % _ALIGNMENT == 0 and place >= NOTE.size:
            name_size, size, kind = NOTE.unpack_from(window, place - NOTE.size)
            length = NOTE.size + len(_NAME) + padded(size)
            if name_size == len(_NAME) - 1 and kind == 0 and 0 < size <= _MOST_BYTES:
                covered = list(memory.covered(physical, physical + length))
                if covered and covered[0] == (physical, physical + length):
                    yield memory.read(physical, length)
        place = window.find(_NAME, place + 1)
