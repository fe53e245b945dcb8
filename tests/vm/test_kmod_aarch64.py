"""The page-scan module in the capture kernel of a crashed arm64 machine, beside the user engine here and there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.inside import PROGRAMS, Capture, run_inside
from tests.lab.recipes import RECIPES
from tests.unit.scan.sinks import Bits

pytestmark = pytest.mark.matrix

LEVELS = (31, 17, 1)
# 2 GiB from 1 GiB on: one leaf of 1 GiB, and the reservation out of the second.
RECIPE = replace(RECIPES["arm64"], memory=2048, crashkernel="512M")
GIB = 1 << 30


@pytest.mark.timeout(2400)
def test_every_strategy_gives_what_the_user_engine_gives_by_leaves_read_back(tmp_path: Path) -> None:
    done = run_inside(
        RECIPE,
        PROGRAMS / "engines.py",
        tmp_path / "inside",
        arguments={"levels": LEVELS},
        capture=Capture(processors=2),
        keep_vmcore=True,
        within=1800,
        say=print,
    )
    for level in LEVELS:
        ways = done.result[str(level)]
        wanted = ways["user auto auto"]
        for way, found in ways.items():
            assert (found["bitmap"], found["counts"]) == (wanted["bitmap"], wanted["counts"]), (level, way)
            assert found["report"]["engine"] == ("user" if way.startswith("user") else "kernel"), found["report"]
            assert not found["report"]["fell_back"]
        bits = Bits()
        with Vmcore.open(str(done.vmcore)) as core:
            user.scan(core, PageKind(level), (), bits)
        assert (done.out / f"bitmap-{level}").read_bytes() == bits.content
    pages = done.result["pages"]
    assert pages["map"] == pages["vmcore"]
    assert any(f"[mem {GIB:#018x}-{2 * GIB - 1:#018x}] page 1G" in line for line in done.dmesg)
    assert not [line for line in done.dmesg if "BUG" in line or "WARNING" in line]
