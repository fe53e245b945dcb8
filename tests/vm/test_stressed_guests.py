"""Guests that stress the rules and the mappings: one bitmap by every engine, strategy, page size, and makedumpfile."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.differences import differences
from tests.lab.inside import PROGRAMS, Capture, Inside, Step, run_inside
from tests.lab.peers import Program
from tests.lab.recipes import Recipe
from tests.vm.same import by_file, pages_are_the_same

LEVELS = (31, 17, 8, 1)
# Blocks of memory that can be offline are found by trying, from the top; two are enough.
OFFLINE = """
done=0
for block in $(ls -d /sys/devices/system/memory/memory* | sort -t y -k 4 -n -r); do
    [ "$done" -lt 2 ] && echo offline >"$block/state" 2>/dev/null && done=$((done + 1))
done
say "offline blocks: $(grep -l offline /sys/devices/system/memory/memory*/state | wc -l)"
"""
POISON = """
for megabyte in 100 164 228 292 356 420 484; do
    echo $((megabyte * 1048576)) 2>/dev/null >/sys/devices/system/memory/hard_offline_page
done
say "poisoned: $(awk '/HardwareCorrupted/ {print $2}' /proc/meminfo) kB"
"""
# A process that has twice the memory it may: the rest is in zram, some of it in the swap cache too.
SWAP = """
echo 256M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null
swapon /dev/zram0 || say "FAILED: swapon"
mkdir /cgroup
mount -t cgroup2 cgroup2 /cgroup
echo +memory >/cgroup/cgroup.subtree_control
mkdir /cgroup/small
echo 64M >/cgroup/small/memory.max
(echo 0 >/cgroup/small/cgroup.procs; anonymous 128)
wait_for SwapFree 0 216
say "swap: $(field SwapFree) MiB left"
"""
PLUG = """
had=$(field MemTotal)
say "plugged"
wait_for MemTotal $((had + 400)) 100000
say "unplug"
wait_for MemTotal 0 $((had + 100))
say "left: $(field MemTotal) of $had MiB"
"""
UNCACHED = """
echo "base=0x14000000 size=0x1000000 type=uncachable" >/proc/mtrr || say "FAILED: mtrr"
say "mtrr: $(grep -c uncachable /proc/mtrr)"
"""


class Guest(NamedTuple):
    """A machine to crash; `shown` are console lines that say that it is what it should be, `explained` causes."""

    recipe: Recipe
    before: str = ""
    modules: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    qemu: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    offline: int = 0
    hwpoison: int = 0
    large: bool = False
    explained: tuple[str, ...] = ()


GUESTS = {
    "optimised hugetlb of 1G and 2M, poison": Guest(
        Recipe(
            "stress-hugetlb",
            "linux-image-amd64=6.12",
            memory=4096,
            crashkernel="256M",
            hugetlb=256,
            transparent=64,
            append="hugetlb_free_vmemmap=on hugepagesz=1G hugepages=1 hugepagesz=2M",
        ),
        POISON,
        shown=("poisoned: ",),
        hwpoison=1,
        explained=("the poisoned page of a huge page, left out by itself",),
    ),
    "four nodes, a hole below 4 GiB, swap on zram, a balloon": Guest(
        Recipe(
            "stress-nodes",
            "linux-image-amd64=6.1",
            memory=3072,
            nodes=4,
            processors=4,
            crashkernel="256M",
            hugetlb=1280,
            balloon=64,
        ),
        SWAP,
        modules=("zram",),
        shown=("swap: ",),
        offline=(64 << 20) // 4096,
    ),
    "no KASLR, SLUB debug, no pages of 1G, uncached memory": Guest(
        Recipe(
            "stress-slub",
            "linux-image-amd64=6.1",
            memory=2048,
            crashkernel="256M",
            processor="max,-pdpe1gb",
            append="nokaslr slub_debug=FZPU",
        ),
        UNCACHED,
        shown=("mtrr: 2",),
    ),
    "memory offline, four levels of page tables": Guest(
        Recipe("stress-offline", "linux-image-amd64", memory=3072, crashkernel="256M", processor="max,-la57"),
        OFFLINE,
        shown=("offline blocks: ",),
        explained=("a tail on 7.1 and newer, whose compound_info that makedumpfile does not know",),
    ),
    "memory hot-removed": Guest(
        Recipe(
            "stress-removed",
            "linux-image-amd64=6.12",
            memory=2048,
            crashkernel="256M",
            append="memhp_default_state=online_movable",
        ),
        PLUG,
        modules=(),
        steps=(
            Step("LAB: plugged", "object-add", {"qom-type": "memory-backend-ram", "id": "more", "size": 512 << 20}),
            Step("LAB: plugged", "device_add", {"driver": "pc-dimm", "id": "dimm", "memdev": "more"}),
            Step("LAB: unplug", "device_del", {"id": "dimm"}),
        ),
        qemu=("-m", "2048M,slots=2,maxmem=8G"),
        shown=("left: ",),
    ),
}


def crashed(guest: Guest, folder: Path) -> Inside:
    """The guest, crashed and scanned in every way."""
    return run_inside(
        guest.recipe,
        PROGRAMS / "engines.py",
        folder,
        arguments={"levels": LEVELS},
        capture=Capture(processors=1),
        before=guest.before,
        first_modules=guest.modules,
        steps=guest.steps,
        qemu=guest.qemu,
        keep_vmcore=True,
        within=900,
        say=print,
    )


@pytest.mark.matrix
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", GUESTS)
def test_a_stressed_guest_is_scanned_alike_by_all(name: str, makedumpfile: Program, tmp_path: Path) -> None:
    guest = GUESTS[name]
    done = crashed(guest, tmp_path / "inside")
    for words in guest.shown:
        assert any(f"LAB: {words}" in line for line in done.console), words
    for level in LEVELS:
        ways = done.result[str(level)]
        by_user = ways["user auto auto"]
        for way, found in ways.items():
            assert (found["bitmap"], found["counts"]) == (by_user["bitmap"], by_user["counts"]), (level, way)
            assert not found["report"]["fell_back"], (level, way, found["report"])
        bits = (done.out / f"bitmap-{level}").read_bytes()
        assert bits == by_file(done.vmcore, level)
        causes = differences(done.vmcore, level, int.from_bytes(bits, "little"), makedumpfile, tmp_path)
        assert set(causes) <= {*guest.explained, "hwpoison or offline, left out at every level"}, causes
    counts = done.result["31"]["user auto auto"]["counts"]
    assert counts["offline"] >= guest.offline
    assert counts["hwpoison"] >= guest.hwpoison
    pages_are_the_same(done.result["pages"])
    broken = [line for line in done.dmesg if "WARNING" in line or "BUG" in line or "Oops" in line]
    assert not broken, broken
