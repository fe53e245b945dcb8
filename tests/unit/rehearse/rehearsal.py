"""A rehearsal's evidence made by hand: a dump that holds what it should, and values around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kdumpd.dumpfile.bitmap import Run
from kdumpd.policy import load
from kdumpd.policy.model import PageKind
from kdumpd.rehearse.judge import Evidence, judge
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.numbers import Numbers
from kdumpd.rehearse.outcome import Guest, Image, Outcome, Saved
from kdumpd.rehearse.scenario import Panic, Scenario
from kdumpd.rehearse.timeline import Event, Phase
from kdumpd.rehearse.workload import PAGE, Kind, marked_page, nonce_page
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.printk import Record, put_log
from tests.builders.vmcore import MIB, VmcoreBuilder
from tests.unit.dumpfile.crash import dump

NONCE = "6e6f6e6365"
SLAB, ANONYMOUS, PIPE = range(0x1300, 0x1340), range(0x1400, 0x1440), 0x1500
PANIC = "Kernel panic - not syncing: sysrq triggered crash"
LOG = f"[    1.0] kdumpd rehearsal nonce {NONCE}\n[    2.0] {PANIC}\n"
NUMBERS = Numbers(memory=7000, free=30000, anonymous=40000, hugetlb=10240, cache=20000, slab=9000)
PAGES = {"total": 7000, "kept": 7000, "user": 50240, "cache": 19000, "cache_private": 1000, "free": 30000}
SCAN = {
    "engine": "kernel",
    "why": "linear: few runs",
    "strategy": "linear",
    "page_size": "1G",
    "page_table_bytes": 32768,
    "nanoseconds_per_page": 1.5,
}
GUEST = Guest("6.1.0-56-amd64", "kexec -s", {"slab": len(SLAB), "anonymous": len(ANONYMOUS)}, NUMBERS)


def saved_dump(folder: Path, left_out: tuple[range, ...] = (ANONYMOUS,), log: str = LOG) -> Saved:
    """A crash's directory with a dump of everything but `left_out`."""
    builder = VmcoreBuilder(((0x1000, 0x9F000), (0x100000, 24 * MIB)), info={"CRASHTIME": "1700000000"})
    put_log(builder, [Record(line.partition("] ")[2].encode()) for line in log.splitlines()])
    for pfn in SLAB:
        builder.write(pfn * PAGE, bytes(40) + marked_page(NONCE, Kind.SLAB)[:4000])
    for pfn in ANONYMOUS:
        builder.write(pfn * PAGE, marked_page(NONCE, Kind.ANONYMOUS))
    builder.write(PIPE * PAGE, nonce_page(NONCE))
    folder.mkdir(parents=True)
    with Vmcore.open(builder.save(folder / "core")) as core:
        dump(core, folder / "vmcore", runs=_runs(left_out))
    (folder / "dmesg.txt").write_text(log)
    record: dict[str, Any] = {
        "dump": {"engine": "kernel", "pages": dict(PAGES)},
        "memory": {"smallest_available": 20 * MIB},
        "policy": {"scan": {"engine": "auto"}},
        "scan": dict(SCAN),
        "notes": [],
    }
    return Saved("/var/crash", folder, ("dmesg.txt", "kdumpd.json", "vmcore"), record)


def _runs(left_out: tuple[range, ...]) -> list[Run]:
    holes = {pfn for hole in left_out for pfn in hole}
    return [(pfn, 1) for start, end in ((0x1, 0x9F), (0x100, 0x1800)) for pfn in range(start, end) if pfn not in holes]


def evidence(saved: Saved | None) -> Evidence:
    """What there is to judge about a level-31 dump of a machine that was crashed by sysrq."""
    return Evidence(Panic.SYSRQ, PageKind(31), NONCE, GUEST, saved)


def outcome(saved: Saved | None, **changes: Any) -> Outcome:
    """A rehearsal that went well if `saved` is good."""
    kernel = Kernel("6.1.0-56-amd64", Path("/boot/vmlinuz"), Path("/lib/modules/6.1.0-56-amd64"), None)
    events = (
        Event(8.0, Phase.IMAGE, "image", "built"),
        Event(33.0, Phase.CRASH, "panic", PANIC),
        Event(50.0, Phase.CAPTURE, "dump", "saved: 39976 pages", 12.76, 19),
        Event(52.0, Phase.ENDED, "end", "Restarting system", 13.02),
    )
    made = Outcome(
        scenario=Scenario(load.default(), kernel),
        image=Image(Path("/capture.img"), "direct", 4_600_000, 15_700_000, {"interpreter": 6_800_000}),
        guest=GUEST,
        nonce=NONCE,
        events=events,
        console=tuple(f"line {number}" for number in range(100)),
        panic=PANIC,
        capture_panic="",
        ending="Restarting system",
        failure="",
        stage="the machine ends",
        saved=(saved,) if saved else (),
        clean={"/var/crash": True},
        checks=judge(evidence(saved)),
        seconds=53.9,
        accelerator="TCG",
    )
    return replace(made, **changes)
