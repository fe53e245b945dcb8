"""Machines of up to a terabyte, really crashed under 256 MiB: scanned and dumped whole by module and by user engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from tests.lab.inside import PROGRAMS, Capture, run_inside
from tests.lab.recipes import Recipe

GIB, TIB = 1 << 30, 1 << 40
MODULE, USER, CHUNK, PEER = "module", "user", "chunk", "makedumpfile"
WAYS: dict[str, dict[str, object]] = {
    MODULE: {"engine": "kernel"},
    USER: {"engine": "user"},
    CHUNK: {"engine": "kernel", "strategy": "chunk", "scan": True},
    PEER: {"makedumpfile": True},
}
# A file with holes: its page cache is as real as any, and no disk has to hold it.
CACHE = "mount -t ext4 /dev/vda /disk 2>/dev/null; truncate -s 10G /disk/holes; cat /disk/holes >/dev/null\n"
# KiB, the same for every size of machine: of the process that dumps, and of all that the capture kernel has.
MOST_PEAK, MOST_USED = 26 << 10, 24 << 10


class Machine(NamedTuple):
    """A machine that crashes; `before` fills its memory.

    Its mem_map is kept: 262,144 pages at 64 GiB, for each of which zstd takes 250 microseconds and more under TCG.
    """

    gibibytes: int
    before: str = ""
    compression: str = "zstd"


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(Machine(64, compression="none"), id="64"),
        pytest.param(Machine(12, CACHE), id="12-cache", marks=pytest.mark.matrix),
        pytest.param(Machine(512), id="512", marks=pytest.mark.matrix),
        pytest.param(Machine(960), id="960", marks=pytest.mark.matrix),
    ],
)
def test_is_dumped_whole_by_module_and_user_engine(machine: Machine, tmp_path: Path) -> None:
    done = run_inside(
        Recipe(
            f"{machine.gibibytes}g",
            "linux-image-amd64=6.1",
            memory=machine.gibibytes << 10,
            crashkernel="256M",
        ),
        PROGRAMS / "dumping.py",
        tmp_path,
        arguments={"ways": WAYS, "compression": machine.compression},
        capture=Capture(makedumpfile="sid"),
        before=machine.before,
        within=7000,
        say=print,
    )
    found = done.result
    print(table(found))
    same_dumps(done.out / MODULE, done.out / USER, found)
    for way in (MODULE, CHUNK):
        tables_are_small(machine, found[way])
    for way in (MODULE, USER):
        assert found[way]["peak"] <= MOST_PEAK
        before, least = found[way]["available"]
        assert before - least <= MOST_USED
    assert found[PEER]["passes"] >= 1


def same_dumps(by_module: Path, by_user: Path, found: dict[str, Any]) -> None:
    """Both are good, and have the same pages with the same contents."""
    first, second = found[MODULE], found[USER]
    assert (first["engine"], first["source"], second["engine"]) == ("kernel", "map", "user")
    assert not first["source_trouble"]
    assert {**first["pages"], "examined": 0} == {**second["pages"], "examined": 0}
    for path in (by_module, by_user):
        with Dump.open(str(path)) as dump:
            said = verify(dump)
            start = dump.layout.bitmap_1
        assert (said.verdict, said.checksum) == ("good", "good")
        assert said.pages == first["pages"]["kept"]
    with by_module.open("rb") as one, by_user.open("rb") as other:
        one.seek(start)
        other.seek(start)
        while content := one.read(1 << 20):
            assert content == other.read(1 << 20)
        assert not other.read(1)


def tables_are_small(machine: Machine, found: dict[str, Any]) -> None:
    """64 KiB of page tables for each TiB begun that is mapped at once; 160 KiB for the mem_map of one by chunk."""
    report = found.get("scan") or found["report"]
    tebibytes = -(-machine.gibibytes * GIB // TIB)
    each = 64 << 10 if report["strategy"] == "linear" else 160 << 10
    assert 0 < report["page_table_bytes"] <= each * tebibytes


def table(found: dict[str, Any]) -> str:
    """What each way took, for the log of the tests."""
    lines = []
    for name, way in found.items():
        report = way.get("scan") or way.get("report") or {}
        seconds = way["seconds"]
        said = {
            "seconds": seconds,
            "scan": report.get("seconds"),
            "passes": way.get("passes"),
            "cycles": way.get("cycles"),
            "strategy": report.get("strategy"),
            "tables": report.get("page_table_bytes"),
            "peak": way.get("peak") or way.get("highest"),
            "available": way["available"],
        }
        lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in said.items() if value is not None))
    return "\n".join(lines)
