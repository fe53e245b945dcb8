"""Judges a dump from outside: against what the first kernel held and counted, not against what the capture said alone.

Three witnesses: `verify` reads the whole dump; the marked pages of each kind of memory are looked for in it, one by
one; and the counts that the capture recorded are held against the first kernel's own. Called by `rehearse.session`.
May import `dumpfile`, `policy.model` and of `rehearse` the modules of values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.errors import KdumpdError
from kdumpd.policy.model import EngineChoice, PageKind
from kdumpd.rehearse import numbers, workload
from kdumpd.rehearse.outcome import Check, Guest, Saved
from kdumpd.rehearse.scenario import Panic
from kdumpd.rehearse.workload import Kind

TOLERANCE = 0.02
# Counters run ahead or behind by per-processor batches (mm/vmstat.c, mm/swap.c): what small counts may differ by.
SLACK = 512
_MIB = 1 << 20

# What the kernel prints as it dies (kernel/panic.c, arch/x86/kernel/nmi.c, arch/x86/mm/fault.c, mm/oom_kill.c). An
# oops goes to the capture kernel before it comes to panic() (arch/x86/kernel/dumpstack.c, oops_end).
CAUSES = {
    Panic.SYSRQ: r"Kernel panic - not syncing: sysrq triggered crash",
    Panic.NMI: r"Kernel panic - not syncing: NMI",
    Panic.OOPS: r"BUG: kernel NULL pointer dereference, address: 0000000000000000|Unable to handle kernel NULL pointer",
    Panic.OOM: r"Kernel panic - not syncing: Out of memory: .*panic_on_oom is enabled",
}

# What each bit of a level leaves out of the marked kinds.
_EXCLUDED_BY = {
    Kind.ANONYMOUS: PageKind.USER,
    Kind.HUGETLB: PageKind.USER,
    Kind.CACHE: PageKind.CACHE | PageKind.CACHE_PRIVATE,
    Kind.CACHE_PRIVATE: PageKind.CACHE_PRIVATE,
    Kind.TMPFS: PageKind.CACHE | PageKind.CACHE_PRIVATE,
    Kind.SLAB: PageKind(0),
}


class Evidence(NamedTuple):
    """What there is to judge."""

    panic: Panic
    level: PageKind
    nonce: str
    guest: Guest
    saved: Saved | None
    image_sha256: str = ""


class Found(NamedTuple):
    """What a dump's pages hold: marked pages by kind, and how many nonce pages."""

    marked: dict[Kind, int]
    nonce_pages: int


def judge(evidence: Evidence) -> tuple[Check, ...]:
    """Everything that was checked, in the order of the story; a dump that is not there is one failed check."""
    saved = evidence.saved
    if saved is None or saved.dump is None:
        return (Check("dump", False, "a complete dump on a target", "none", "the targets' file systems"),)
    log = saved.text("dmesg.txt")
    checks = [
        *_image_check(evidence),
        *_log_checks(evidence, log),
        _incidents(saved),
        _scan(saved),
        *_count_checks(evidence, log),
    ]
    try:
        with Dump.open(str(saved.dump)) as dump:
            checks[:0] = _verified(dump)
            checks += _own_log(evidence, dump)
            checks += _page_checks(evidence, look_for(evidence.nonce, dump))
    except KdumpdError as error:
        checks.insert(0, Check("verify", False, "a dump that can be read", str(error), "kdumpd verify"))
    return tuple(checks)


def look_for(nonce: str, dump: Dump) -> Found:
    """The marked pages among all that the dump holds; every page is decompressed."""
    marks = {workload.mark(nonce, kind): kind for kind in Kind if kind is not Kind.SLAB}
    slab = workload.mark(nonce, Kind.SLAB)
    wanted = workload.nonce_page(nonce)
    marked = dict.fromkeys(Kind, 0)
    nonce_pages = 0
    zero_offset = -1
    for _, descriptor in dump.pages():
        if descriptor.offset in (0, zero_offset):
            continue
        page = dump.page(descriptor)
        kind = marks.get(page[: workload.MARK])
        if kind is not None:
            marked[kind] += 1
        elif page == wanted:
            nonce_pages += 1
        elif slab in page:
            marked[Kind.SLAB] += 1
        elif zero_offset < 0 and not any(page):
            zero_offset = descriptor.offset
    return Found(marked, nonce_pages)


def near(expected: int, found: int) -> bool:
    """Whether a count is within 2 percent of what was expected, or within the batches of per-processor counters."""
    return abs(found - expected) <= max(expected * TOLERANCE, SLACK)


def _verified(dump: Dump) -> list[Check]:
    result = verify(dump)
    found = f"{result.verdict}, {result.pages} pages, {result.size / _MIB:.1f} MiB, checksum {result.checksum}"
    if result.problems:
        found += f": {result.problems[0]}"
    good = result.verdict == "good" and result.checksum != "bad"
    return [Check("verify", good, "good", found, "kdumpd verify: headers, bitmaps, every page decompresses")]


def _image_check(evidence: Evidence) -> Iterable[Check]:
    """What was loaded begins with the image, byte for byte."""
    wanted, found = evidence.image_sha256, evidence.guest.image_sha256
    if wanted:
        how = "sha256 of the image's bytes within what the first kernel loaded"
        yield Check("image", found == wanted, wanted, found or "not told", how)


def _log_checks(evidence: Evidence, log: str) -> list[Check]:
    cause = re.search(CAUSES[evidence.panic], log)
    return [
        Check(
            "nonce in dmesg.txt",
            evidence.nonce in log,
            evidence.nonce,
            evidence.nonce if evidence.nonce in log else "not there",
            "a line that the first kernel wrote to /dev/kmsg",
        ),
        Check(
            "panic message",
            cause is not None,
            f"names {evidence.panic}",
            cause[0] if cause else "not there",
            "dmesg.txt",
        ),
    ]


def _incidents(saved: Saved) -> Check:
    incidents = saved.record.get("incidents")
    told = [str(incident) for incident in incidents] if isinstance(incidents, list) else []
    found = "; ".join(told) or "none"
    return Check("incidents", not told, "none", found, "what the runner met and went on from, kdumpd.json")


def _scan(saved: Saved) -> Check:
    """Who chose the pages, and at what price; wrong is only another engine than the one that the policy names."""
    scan, wanted = _member(saved.record, "scan"), _member(_member(saved.record, "policy"), "scan").get("engine")
    good = wanted in (None, EngineChoice.AUTO, scan.get("engine"))
    found = saved.chooser or "not told"
    if scan:
        tables, pace = int(scan.get("page_table_bytes", 0)) >> 10, scan.get("nanoseconds_per_page", 0)
        found += f", {tables} KiB of page tables, {pace} ns a page: {scan.get('why', '')}"
    return Check("scan", good, f"scan.engine: {wanted or EngineChoice.AUTO}", found, "kdumpd.json")


def _member(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _own_log(evidence: Evidence, dump: Dump) -> list[Check]:
    found = any(evidence.nonce.encode() in line for line in dump.dmesg())
    text = "there" if found else "not there"
    return [Check("nonce in the dump's log", found, "there", text, "kdumpd dmesg: the log read out of the dump itself")]


def _page_checks(evidence: Evidence, found: Found) -> Iterable[Check]:
    yield Check(
        "nonce page",
        found.nonce_pages >= 1,
        "in the dump",
        f"{found.nonce_pages} found",
        "4096 random bytes in a pipe of the first kernel",
    )
    for kind in Kind:
        held = evidence.guest.held.get(kind, 0)
        if not held:
            continue
        excluded = bool(_EXCLUDED_BY[kind] & evidence.level)
        if evidence.panic is Panic.OOM and not excluded and kind in (Kind.CACHE, Kind.CACHE_PRIVATE):
            continue  # reclaimed before the machine died
        expected, count = 0 if excluded else held, found.marked[kind]
        yield Check(
            f"{kind} pages",
            abs(count - expected) <= held * TOLERANCE,
            f"{held} held, {'left out' if excluded else 'kept'}",
            f"{count} in the dump",
            "marked pages looked for in the dump, within 2 percent",
        )


def _count_checks(evidence: Evidence, log: str) -> Iterable[Check]:
    counted = evidence.guest.numbers
    pages = _pages_of(evidence.saved)
    if counted is None or not pages:
        yield Check("counts", False, "counts of both kernels", "none", "kdumpd.json and the first kernel's counters")
        return
    source = "/proc/vmstat right before the crash"
    if evidence.panic is Panic.OOM:
        report = numbers.from_oom_report(log, counted)
        counted, source = report or counted, "the Mem-Info of the out-of-memory report"
    level = evidence.level
    yield _count("memory", counted.memory, pages["total"], "System RAM of /proc/iomem without the reservation")
    if PageKind.USER in level:
        yield _count(
            "user", counted.anonymous + counted.hugetlb, pages["user"], f"anonymous and hugetlb pages, {source}"
        )
    cache = pages["cache"] + pages["cache_private"]
    if PageKind.CACHE_PRIVATE in level:
        yield _count("cache", counted.cache, cache, f"LRU pages that are not anonymous, {source}")
    elif PageKind.CACHE in level and evidence.panic is not Panic.OOM:
        clean = counted.cache - evidence.guest.held.get(Kind.CACHE_PRIVATE, 0)
        yield _count("cache", clean, cache, f"LRU pages that are not anonymous and have no buffers, {source}")
    if PageKind.FREE in level:
        yield _count("free", counted.free, pages["free"], f"free pages, {source}")


def _count(name: str, expected: int, found: int, how: str) -> Check:
    share = abs(found - expected) / max(expected, 1)
    return Check(
        f"{name} count",
        near(expected, found),
        f"{expected} pages",
        f"{found} pages ({share:.2%} apart)",
        f"{how}; kdumpd.json",
    )


def _pages_of(saved: Saved | None) -> dict[str, int]:
    return _member(_member(saved.record, "dump"), "pages") if saved is not None else {}
