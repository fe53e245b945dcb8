"""The module under abuse, in the capture kernel: it answers everything, loses nothing, and nothing breaks."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from tests.lab.inside import PROGRAMS, Capture, Inside, run_inside
from tests.lab.recipes import Recipe

# What the kernel says when something of its own was touched that should not have been.
BROKEN = re.compile(
    r"BUG|WARNING|Oops|general protection|Redzone|Poison overwritten|Object already free|INFO: task|leak"
)
SLACK = 512  # KiB of slab, and of page tables, that other things than the module move by
FREE_SLACK = 4096
KERNELS = [
    pytest.param("linux-image-amd64=6.1"),
    pytest.param("linux-image-amd64=6.12", marks=pytest.mark.matrix),
    pytest.param("linux-image-amd64", marks=pytest.mark.matrix),
]


def inside(kernel: str, program: str, folder: Path, processors: int, **arguments: int) -> Inside:
    """One crash, and a program of abuse in a capture kernel that checks its slabs."""
    return run_inside(
        Recipe("hostile", kernel, memory=3072, crashkernel="256M"),
        PROGRAMS / program,
        folder,
        arguments=arguments,
        capture=Capture(processors=processors, append="slub_debug=FZPU"),
        within=900,
        say=print,
    )


def nothing_broke(done: Inside) -> None:
    broken = [line for line in done.dmesg if BROKEN.search(line)]
    assert not broken, broken


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("kernel", KERNELS)
def test_malformed_requests_and_killed_callers_break_nothing_and_leak_nothing(kernel: str, tmp_path: Path) -> None:
    done = inside(kernel, "hostile.py", tmp_path, 2, seed=20261124, requests=10000, cycles=100, kills=50)
    nothing_broke(done)
    found = done.result
    answers = found["answers"]
    assert sum(answers.values()) == 10000
    # Refused in many ways, and each of them was reached.
    assert {"EINVAL", "E2BIG", "EFAULT", "EOVERFLOW", "ERANGE", "EDOM", "ENOENT", "ENXIO", "ENOSPC"} <= set(answers)
    before = found["before"]
    for when in ("after requests", "after cycles", "after kills"):
        after = found[when]
        assert after["held"] == before["held"] == 0, when
        assert after["mappings"] == before["mappings"], (when, found)
        assert after["ioremap"] == before["ioremap"], (when, found)
        assert abs(after["slab"] - before["slab"]) <= SLACK, (when, found)
        assert abs(after["tables"] - before["tables"]) <= SLACK, (when, found)
        assert before["free"] - after["free"] <= FREE_SLACK, (when, found)
    news = found["news"]
    assert news["times"] > 0
    assert news["last"] == [news["last"][1], news["last"][1], 0]
    assert news["quiet"]
    # The median: a processor that waits for its turn on this machine's says nothing of the module.
    assert len(found["interrupted"]) >= 10
    assert 0 < statistics.median(found["interrupted"]) < 0.1, found["interrupted"]


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("processors", [1, pytest.param(2, marks=pytest.mark.matrix)])
def test_whichever_allocation_fails_the_bitmap_is_whole(kernel: str, processors: int, tmp_path: Path) -> None:
    done = inside(kernel, "failing.py", tmp_path, processors)
    nothing_broke(done)
    for strategy, found in done.result.items():
        assert found["points"] >= 5, strategy
        assert strategy == "page" or found["last"] == found["points"] + 1, strategy
        assert found["taken_over"] > 0, strategy
