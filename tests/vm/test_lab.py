"""The lab itself: its vmcores are what a copy of /proc/vmcore would be, and hold every kind of page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import peers
from tests.lab.crash import crash
from tests.lab.recipes import RECIPES
from tests.vm.conftest import CrashOf

KINDS = (
    "Pages filled with zero",
    "Non-private cache pages",
    "Private cache pages",
    "User process data pages",
    "Free pages",
    "Hwpoison pages",
    "Offline pages",
)


def test_a_guests_memory_holds_pages_of_every_kind(
    crash_of: CrashOf, makedumpfile: peers.Program, tmp_path: Path
) -> None:
    done = makedumpfile.run("-l", "-d", "31", "--message-level", "31", crash_of("6.1").vmcore, tmp_path / "dump")
    counts = {
        line.rpartition(":")[0].strip(): int(line.rpartition(":")[2], 16)
        for line in done.stdout.splitlines()
        if line.rpartition(":")[0].strip() in KINDS
    }
    assert sorted(counts) == sorted(KINDS)
    assert all(counts.values()), counts


@pytest.mark.matrix
def test_a_composed_vmcore_is_byte_for_byte_what_the_capture_kernel_reads() -> None:
    made = crash(replace(RECIPES["6.1"], name="6.1-whole", whole=True, memory=768, crashkernel="160M"), say=print)
    size = made.vmcore.stat().st_size
    with made.vmcore.open("rb") as composed, (made.folder / "vmcore.whole").open("rb") as copied:
        for start in range(0, size, 1 << 20):
            block = composed.read(1 << 20)
            assert block == copied.read(1 << 20)[: len(block)], f"differs within 1 MiB from {start:#x}"
