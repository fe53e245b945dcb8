"""The page-scan module where it belongs, in a capture kernel, beside the user engine and makedumpfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.scan.selection import Interval
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.differences import differences
from tests.lab.inside import PROGRAMS, Capture, Inside, run_inside
from tests.lab.peers import Program
from tests.lab.recipes import Recipe
from tests.unit.scan.sinks import Bits
from tests.vm.same import by_file, pages_are_the_same

KERNELS = {"6.1": "linux-image-amd64=6.1", "6.12": "linux-image-amd64=6.12", "newest": "linux-image-amd64"}
# 3 GiB: with the hole below 4 GiB there is one page of 1 GiB to be had.
MEMORY = 3072
LEVELS = (31, 17, 8, 1)
# Page frames below and above 4 GiB; mem_map lies higher.
HANDS_OFF = ((0x2000, 0x2100), (0x100400, 0x123456))
CASES = [
    pytest.param("6.1", LEVELS),
    *(pytest.param(kernel, LEVELS, marks=pytest.mark.matrix) for kernel in ("6.12", "newest")),
    pytest.param("6.1", tuple(range(32)), marks=pytest.mark.matrix),
]


def crashed(kernel: str, levels: tuple[int, ...], folder: Path, hands_off: tuple[tuple[int, int], ...] = ()) -> Inside:
    """One crash, scanned in every way by two processors."""
    return run_inside(
        Recipe(f"engines-{kernel}", KERNELS[kernel], memory=MEMORY, crashkernel="192M"),
        PROGRAMS / "engines.py",
        folder,
        arguments={"levels": levels, "hands_off": hands_off},
        capture=Capture(processors=2),
        keep_vmcore=True,
        within=600 + 60 * len(levels),
        say=print,
    )


@pytest.mark.timeout(4000)
@pytest.mark.parametrize(("kernel", "levels"), CASES)
def test_every_strategy_gives_what_the_user_engine_and_makedumpfile_give(
    kernel: str, levels: tuple[int, ...], makedumpfile: Program, tmp_path: Path
) -> None:
    done = crashed(kernel, levels, tmp_path / "inside")
    for level in levels:
        ways = done.result[str(level)]
        by_user = ways["user auto auto"]
        for way, found in ways.items():
            assert (found["bitmap"], found["counts"]) == (by_user["bitmap"], by_user["counts"]), (level, way)
            as_was_asked(way, found["report"])
        bits = (done.out / f"bitmap-{level}").read_bytes()
        assert bits == by_file(done.vmcore, level)
        ours = int.from_bytes(bits, "little")
        causes = differences(done.vmcore, level, ours, makedumpfile, tmp_path)
        assert not causes["unexplained"], causes
        if kernel != "newest":
            assert not causes, causes
    pages_are_the_same(done.result["pages"])
    log_tells_of_leaves(done)


def as_was_asked(way: str, report: dict[str, Any]) -> None:
    """The report of a way says what was asked for, by leaves that are no larger."""
    engine, strategy, size = way.split()
    assert report["engine"] == ("user" if engine == "user" else "kernel"), report
    assert not report["fell_back"]
    assert report["seconds"] > 0
    if engine == "user":
        return
    large, middle, small = report["leaves"]
    if strategy == "auto":
        assert report["strategy"] == "linear"
        assert large >= 1
        assert report["why"].startswith("linear: ")
        return
    assert report["strategy"] == strategy
    if strategy == "page":
        return
    assert report["page_table_bytes"] > 0
    if size == "4K":
        assert (large, middle) == (0, 0)
        assert small > 0
    elif size == "2M" or strategy == "chunk":
        assert large == 0
        assert middle > 0
    else:
        assert large > 0
    assert report["page_size"] == ("2M" if size == "1G" and strategy == "chunk" else size)


def log_tells_of_leaves(done: Inside) -> None:
    """The kernel's log has the mappings, and nothing that warns."""
    said = [line for line in done.dmesg if "kdumpd_scan: " in line]
    assert any("page 1G" in line for line in said)
    assert any("page 2M" in line for line in said)
    assert any("page 4K" in line for line in said)
    assert not [line for line in done.dmesg if "WARNING" in line or "BUG" in line or "Oops" in line]


@pytest.mark.timeout(2000)
def test_ranges_to_keep_hands_off_are_left_out_by_every_strategy(tmp_path: Path) -> None:
    done = crashed("6.1", (31, 0), tmp_path / "inside", HANDS_OFF)
    for level in (31, 0):
        ways = done.result[str(level)]
        by_user = ways["user auto auto"]
        for way, found in ways.items():
            assert (found["bitmap"], found["counts"]) == (by_user["bitmap"], by_user["counts"]), (level, way)
        bits = Bits()
        with Vmcore.open(str(done.vmcore)) as core:
            counts = user.scan(core, PageKind(level), tuple(Interval(*frames) for frames in HANDS_OFF), bits)
        assert (done.out / f"bitmap-{level}").read_bytes() == bits.content
        assert counts.hands_off == sum(end - start for start, end in HANDS_OFF)
