"""The first kernel's own numbers about its memory, in pages: what the dump's counts are measured against.

Made in the guest from /proc/vmstat and /proc/iomem right before the crash; after an OOM panic, when they are long out
of date, from the kernel's own Mem-Info lines in its log. Used by `rehearse.guest` and `rehearse.judge`. May import
`host.iomem`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kdumpd.host import iomem

PAGE = 4096


class Numbers(NamedTuple):
    """Pages of the first kernel.

    `anonymous` are mapped by processes, without hugetlb; `cache` is everything on the LRU lists that is not anonymous:
    files, tmpfs and the root file system; `memory` is System RAM without the reservation.
    """

    memory: int
    free: int
    anonymous: int
    hugetlb: int
    cache: int
    slab: int


def from_guest(vmstat: str, meminfo: str, resources: str) -> Numbers:
    """The numbers in the texts of /proc/vmstat, /proc/meminfo and /proc/iomem."""
    stat = {name: int(value) for name, value in (line.split() for line in vmstat.splitlines())}
    lru = sum(
        stat[f"nr_{list_name}"]
        for list_name in ("active_anon", "inactive_anon", "active_file", "inactive_file", "unevictable")
    )
    return Numbers(
        memory=system_ram(resources),
        free=stat["nr_free_pages"],
        anonymous=stat["nr_anon_pages"],
        hugetlb=_hugetlb_pages(meminfo),
        cache=lru - stat["nr_anon_pages"],
        slab=stat["nr_slab_reclaimable"] + stat["nr_slab_unreclaimable"],
    )


def from_oom_report(log: str, before: Numbers) -> Numbers | None:
    """What the last Mem-Info of an out-of-memory report in the kernel's `log` says; None where there is none.

    The report (mm/show_mem.c) has no count of anonymous pages: they are the anonymous lists without shmem.
    """
    start = log.rfind("Mem-Info:")
    if start < 0:
        return None
    # "active_anon:1 inactive_anon:2 isolated_anon:0\n active_file:3 ... shmem:4 ... free:5 free_pcp:6 free_cma:0"
    found = {
        name: int(value) for name, value in re.findall(r"\b([a-z_]+):(\d+)(?![\dkK])\b", log[start : start + 1500])
    }
    try:
        anonymous = found["active_anon"] + found["inactive_anon"] - found["shmem"]
        lru = sum(
            found[name] for name in ("active_anon", "inactive_anon", "active_file", "inactive_file", "unevictable")
        )
        return before._replace(
            free=found["free"],
            anonymous=anonymous,
            cache=lru - anonymous,
            slab=found["slab_reclaimable"] + found["slab_unreclaimable"],
        )
    except KeyError:
        return None


def system_ram(text: str) -> int:
    """Pages of System RAM in /proc/iomem's text, without what is reserved for the capture kernel."""
    pages = 0
    for found in iomem.resources(text):
        size = (found.end - found.start) // PAGE
        if found.name == "System RAM" and not found.nested:
            pages += size
        elif found.name == iomem.CRASH_KERNEL:
            pages -= size
    return pages


def _hugetlb_pages(meminfo: str) -> int:
    total = re.search(r"^HugePages_Total:\s+(\d+)", meminfo, re.MULTILINE)
    size = re.search(r"^Hugepagesize:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(total[1]) * int(size[1]) * 1024 // PAGE if total and size else 0
