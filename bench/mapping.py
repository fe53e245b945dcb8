"""In the capture kernel: every way to map and scan, in one guest and one boot, beside makedumpfile's own passes.

Guests: 4 GiB half free, 12 GiB full of page cache, 512 GiB hardly used; at one and at two processors. Both sides are
timed from inside: ours with the look for mem_map and the making of the maps, makedumpfile by its own STEP lines, all
passes added up. Takes ten minutes; what was measured stays in build/bench/mapping.json, for `python -m bench.picture`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.inside import PROGRAMS, Capture, run_inside
from tests.lab.recipes import Recipe

PEER = "makedumpfile"
KEPT = Path(__file__).parent.parent / "build" / "bench" / "mapping.json"
WAYS: dict[str, dict[str, object]] = {
    "user engine": {"engine": "user"},
    "page": {"engine": "kernel", "strategy": "page"},
    "chunk": {"engine": "kernel", "strategy": "chunk"},
    "linear, 1G": {"engine": "kernel", "strategy": "linear", "page_size": "1G"},
    "auto": {"engine": "auto"},  # not behind 4K, whose map may cost the next one time when it goes
    "linear, 2M": {"engine": "kernel", "strategy": "linear", "page_size": "2M"},
    "linear, 4K": {"engine": "kernel", "strategy": "linear", "page_size": "4K"},
    PEER: {"makedumpfile": True},
}
# A file with holes: its page cache is as real as any, and no disk has to hold it.
CACHE = "mount -t ext4 /dev/vda /disk 2>/dev/null; truncate -s {size}G /disk/holes; cat /disk/holes >/dev/null\n"


class Guest(NamedTuple):
    """A machine to scan; `before` fills its memory, `without` names the ways that would take too much of its memory.

    `peer_rounds`: how often makedumpfile runs, which takes minutes where memory is large.
    """

    title: str
    recipe: Recipe
    before: str = ""
    without: tuple[str, ...] = ()
    rounds: int = 5
    peer_rounds: int = 5


GUESTS = (
    Guest(
        "4 GiB, half free",
        Recipe("4g", "linux-image-amd64=6.1", memory=4096, crashkernel="256M", anonymous=512),
        CACHE.format(size=1),
    ),
    Guest(
        "12 GiB, full of page cache",
        Recipe("12g", "linux-image-amd64=6.1", memory=12288, crashkernel="256M"),
        CACHE.format(size=10),
    ),
    Guest(
        "512 GiB, hardly used",
        Recipe("512g", "linux-image-amd64=6.1", memory=512 << 10, crashkernel="256M"),
        without=("linear, 4K",),
        rounds=3,
        peer_rounds=1,
    ),
)


def measured(guest: Guest) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The rounds of every way, by the number of processors."""
    ways = {name: way for name, way in WAYS.items() if name not in guest.without}
    ways[PEER] = {"makedumpfile": True, "rounds": guest.peer_rounds}
    with tempfile.TemporaryDirectory(prefix="kdumpd-bench-") as folder:
        done = run_inside(
            guest.recipe,
            PROGRAMS / "timings.py",
            Path(folder),
            arguments={"ways": ways, "rounds": guest.rounds, "online": [1, 2]},
            capture=Capture(processors=2, makedumpfile="sid"),
            before=guest.before,
            within=900,
            say=print,
        )
    taken: dict[str, dict[str, list[dict[str, Any]]]] = done.result["taken"]
    return taken


def pace(taken: dict[str, list[dict[str, Any]]], name: str) -> float:
    """The median of a way in nanoseconds a page."""
    ours = next(rounds[0] for other, rounds in taken.items() if other != PEER)
    rounds = taken[name] if name == PEER else taken[name][1:]
    seconds = statistics.median(float(one["seconds"]) for one in rounds)
    return seconds * 1e9 / int(ours["counts"]["total"])


def table(title: str, taken: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: medians, and how many times faster than makedumpfile in the same boot."""
    peer = statistics.median(one["seconds"] for one in taken[PEER])
    ours = next(one[0] for name, one in taken.items() if name != PEER)
    pages = ours["counts"]["total"]
    last = taken[PEER][-1]
    lines = [
        f"### {title}: {pages:,} pages; {PEER} makes {last['passes']} passes",
        "",
        f"| way | median, s | of it in the module | structures looked at | ns a page | times {PEER} "
        "| leaves 1G / 2M / 4K | page tables, KiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in taken.items():
        counted = rounds if name == PEER else rounds[1:]
        median = statistics.median(one["seconds"] for one in counted)
        report = rounds[-1].get("report", {})
        leaves = " / ".join(f"{count:,}" for count in report["leaves"]) if any(report.get("leaves", ())) else "-"
        tables = f"{report['page_table_bytes'] / 1024:,.0f}" if report.get("page_table_bytes") else "-"
        inside = statistics.median(one.get("module", 0.0) for one in counted)
        looked = f"{rounds[-1]['counts']['examined']:,}" if name != PEER else "-"
        cells = (
            *(f"{median:.4f}", f"{inside:.4f}" if inside else "-", looked),
            *(f"{median * 1e9 / pages:.2f}", f"{peer / median:.1f}", leaves, tables),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    bitmaps = {rounds[0]["crc"] for name, rounds in taken.items() if name != PEER}
    lines += [
        "",
        f"All ways gave {'the same bitmap' if len(bitmaps) == 1 else f'{len(bitmaps)} DIFFERENT BITMAPS'}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """A table for each guest and number of processors."""
    kept: dict[str, dict[str, dict[str, float]]] = {}
    for guest in GUESTS:
        for online, taken in measured(guest).items():
            kept.setdefault(guest.title, {})[online] = {name: pace(taken, name) for name in taken}
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            KEPT.write_text(json.dumps(kept, indent=1))
            print(table(f"{guest.title}, {online} processor{'s' if online != '1' else ''}", taken), flush=True)


if __name__ == "__main__":
    main()
