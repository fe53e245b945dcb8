"""The first kernel's own counts."""

from __future__ import annotations

from kdumpd.rehearse.numbers import Numbers, from_guest, from_oom_report, system_ram

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-7ffdffff : System RAM
  01000000-01e02336 : Kernel code
  74000000-7bffffff : Crash kernel
fffc0000-ffffffff : Reserved
"""
VMSTAT = "\n".join(
    f"{name} {value}"
    for name, value in {
        "nr_free_pages": 300000,
        "nr_active_anon": 100,
        "nr_inactive_anon": 80000,
        "nr_active_file": 10,
        "nr_inactive_file": 40000,
        "nr_unevictable": 5000,
        "nr_anon_pages": 54000,
        "nr_slab_reclaimable": 3000,
        "nr_slab_unreclaimable": 9000,
    }.items()
)
MEMINFO = "MemTotal: 1 kB\nHugePages_Total:      20\nHugePages_Free: 0\nHugepagesize:       2048 kB\n"
OOM = """\
[   19.9] Mem-Info:
[   19.9] active_anon:1009 inactive_anon:429222 isolated_anon:0
[   19.9]  active_file:15 inactive_file:0 isolated_file:0
[   19.9]  unevictable:7 dirty:0 writeback:0
[   19.9]  slab_reclaimable:2680 slab_unreclaimable:9886
[   19.9]  mapped:2436 shmem:38026 pagetables:778
[   19.9]  free:13003 free_pcp:633 free_cma:0
[   19.9] Node 0 active_anon:4036kB inactive_anon:1716888kB shmem:152104kB
"""


def test_memory_is_system_ram_without_the_reservation() -> None:
    assert system_ram(IOMEM) == (0x9EC00 + 0x7FEE0000) // 4096 - (128 << 20) // 4096


def test_cache_is_what_is_on_the_lists_and_not_anonymous() -> None:
    numbers = from_guest(VMSTAT, MEMINFO, IOMEM)
    assert numbers == Numbers(
        memory=system_ram(IOMEM), free=300000, anonymous=54000, hugetlb=10240, cache=125110 - 54000, slab=12000
    )


def test_an_oom_report_replaces_what_the_hog_has_changed() -> None:
    before = from_guest(VMSTAT, MEMINFO, IOMEM)
    after = from_oom_report("[   18.0] something\n" + OOM, before)
    assert after is not None
    assert (after.free, after.anonymous, after.cache) == (13003, 1009 + 429222 - 38026, 38026 + 15 + 7)
    assert (after.memory, after.hugetlb) == (before.memory, before.hugetlb)


def test_a_log_without_a_report_or_with_half_of_one_says_nothing() -> None:
    before = from_guest(VMSTAT, MEMINFO, IOMEM)
    assert from_oom_report("nothing", before) is None
    assert from_oom_report(OOM[:120], before) is None
