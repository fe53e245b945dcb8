"""Real crashes of real kernels, from a policy to a dump that is judged good from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdumpd.capture.console import parse
from kdumpd.cli.main import main
from kdumpd.policy import load
from kdumpd.rehearse import kernels
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import Panic, Scenario
from kdumpd.rehearse.session import rehearse

DRACUT = b"capture_kernel: {boot: dracut}\n"


def scenario(kernel: str = "linux-image-amd64=6.1", policy: bytes = b"", panic: Panic = Panic.SYSRQ) -> Scenario:
    """A rehearsal of this policy on this kernel; the dracut way needs a larger reservation than the direct one."""
    crashkernel = "192M" if policy == DRACUT else "128M"
    return Scenario(load.parse(policy), kernels.find(kernel), panic, crashkernel=crashkernel)


def assert_verified(outcome: Outcome) -> None:
    """Everything that was judged is good; else the story tells why not."""
    bad = [check for check in outcome.checks if not check.good]
    assert outcome.verified, "\n".join([outcome.failure, *map(str, bad), *outcome.console[-30:]])
    assert outcome.ending == "Restarting system"
    assert all(outcome.clean.values()), "the target's file system was not unmounted"


def test_the_verb_with_the_default_policy_verifies_a_dump_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["rehearse", "--kernel", "linux-image-amd64=6.1", "--json", "--output", str(tmp_path / "out")])
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert code == 0, shown.err
    assert document["verified"]
    assert Path(document["dump"]).is_file()
    assert json.loads((tmp_path / "out" / "rehearsal.json").read_text()) == document
    assert document["image"]["boot"] == "direct"
    assert document["capture"]["memory"]["smallest_available"] > 8 << 20
    steps = [parse(line) for line in (tmp_path / "out" / "console.log").read_text().splitlines()]
    assert {"start", "target", "dmesg", "scan", "dump"} <= {step.stage for step in steps if step}


def test_an_oops_is_captured_by_an_image_that_systemd_boots(tmp_path: Path) -> None:
    outcome = rehearse(scenario(policy=DRACUT, panic=Panic.OOPS), tmp_path)
    assert_verified(outcome)
    assert outcome.image.boot == "dracut"
    assert outcome.panic.startswith("BUG: kernel NULL pointer dereference")


@pytest.mark.matrix
@pytest.mark.parametrize("panic", [Panic.NMI, Panic.OOM, Panic.OOPS])
def test_every_way_to_crash_is_captured(tmp_path: Path, panic: Panic) -> None:
    assert_verified(rehearse(scenario(panic=panic), tmp_path))


@pytest.mark.matrix
@pytest.mark.parametrize("kernel", ["linux-image-amd64=6.12", "linux-image-amd64"])
@pytest.mark.parametrize("policy", [b"", DRACUT], ids=["direct", "dracut"])
def test_newer_kernels_are_captured_both_ways(tmp_path: Path, kernel: str, policy: bytes) -> None:
    assert_verified(rehearse(scenario(kernel, policy), tmp_path))


@pytest.mark.matrix
@pytest.mark.parametrize("level", [0, 1, 2, 4, 8, 16, 17, 31])
def test_each_level_keeps_and_leaves_out_what_it_says(tmp_path: Path, level: int) -> None:
    """Marked pages of each kind are in the dump or not, as the level says."""
    assert_verified(rehearse(scenario(policy=b"dump: {level: %d}\n" % level), tmp_path))


def test_memory_hints_reach_the_capture_kernel_and_their_pages_stay_out(tmp_path: Path) -> None:
    hints = (
        b"memmap:\n"
        b"  - {kind: reserved, start: 0x18690000, size: 64K}\n"
        b"  - {kind: acpi, start: 0x18700000, size: 64K}\n"
        b"  - {kind: ram, start: 0x75800000, size: 16M}\n"
    )
    outcome = rehearse(scenario(policy=hints), tmp_path)
    assert_verified(outcome)
    console = "\n".join(outcome.console)
    capture = console[console.rindex("] Linux version ") :]
    for word in ("memmap=64K$0x18690000", "memmap=64K#0x18700000", "memmap=16M@0x75800000"):
        assert word in capture
    for line in (
        "user: [mem 0x0000000018690000-0x000000001869ffff] reserved",
        "user: [mem 0x0000000018700000-0x000000001870ffff] ACPI data",
    ):
        assert line in capture
    assert outcome.dump is not None
    assert outcome.dump.record["dump"]["pages"]["hands_off"] == 32
