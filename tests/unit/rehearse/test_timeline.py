"""The story that the console tells."""

from __future__ import annotations

import json

import pytest

from kdumpd.capture.console import StepLine, render
from kdumpd.rehearse.timeline import Phase, Timeline


def guest(stage: str, **values: object) -> str:
    return "kdumpd-guest: " + json.dumps({"stage": stage, **values})


STORY = [
    (1.0, "[    0.000000] Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)"),
    (5.0, guest("up", release="6.1.0-56-amd64", seconds=3.6)),
    (6.0, guest("disks", count=1)),
    (7.0, guest("loaded", how="kexec -s")),
    (9.0, guest("filled", held={"anonymous": 512}, numbers={})),
    (9.1, guest("crashing", panic="sysrq")),
    (9.2, "[    9.155801] Kernel panic - not syncing: sysrq triggered crash"),
    (14.0, "[    0.000000] Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)"),
    (18.0, "[    3.7] " + render(StepLine(3.68, 32, "start", "kdumpd on 6.1"))),
    (27.0, "[   12.8] " + render(StepLine(12.76, 19, "dump", "saved: 39976 pages"))),
    (27.2, "[   13.020000] reboot: Restarting system"),
]


def told(lines: list[tuple[float, str]]) -> Timeline:
    timeline = Timeline()
    for seconds, line in lines:
        timeline.feed(seconds, line)
    return timeline


def test_each_stage_of_a_whole_rehearsal_is_an_event() -> None:
    timeline = told(STORY)
    assert [event.stage for event in timeline.events] == [
        "kernel",
        "up",
        "disks",
        "loaded",
        "filled",
        "crashing",
        "panic",
        "kernel",
        "start",
        "dump",
        "end",
    ]
    assert timeline.phase is Phase.ENDED
    assert timeline.ending == "Restarting system"
    assert timeline.panic == "Kernel panic - not syncing: sysrq triggered crash"
    assert timeline.capture_panic == ""


def test_the_runners_lines_carry_seconds_of_the_capture_kernel_and_memory() -> None:
    dump = told(STORY).events[-2]
    assert (dump.capture_seconds, dump.memory, dump.phase) == (12.76, 19, Phase.CAPTURE)


def test_what_the_guest_program_said_is_kept_by_stage() -> None:
    assert told(STORY).guest["filled"] == {"held": {"anonymous": 512}, "numbers": {}}


def test_other_lines_are_no_events() -> None:
    timeline = told(STORY[:1])
    for line in ("", "[    1.0] pci 0000:00:01.0: reg 0x10", "kdumpd-guest: {cut", "kdumpd-guest: 7", "kdumpd: +x"):
        assert timeline.feed(2.0, line) is None


@pytest.mark.parametrize(
    "line",
    [
        "[   12.1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[   12.1] BUG: unable to handle page fault for address: ffffffffdeadbeef",
        "[   12.1] Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
    ],
)
def test_the_first_kernels_last_words_are_its_panic(line: str) -> None:
    timeline = told([*STORY[:6], (10.0, line), (10.1, "[   12.2] Kernel panic - not syncing: Fatal exception")])
    assert timeline.panic == line.split("] ")[1]
    assert timeline.phase is Phase.CRASH


def test_a_panic_after_the_second_kernel_started_is_the_capture_kernels() -> None:
    timeline = told([*STORY[:8], (20.0, "[    7.27] Kernel panic - not syncing: Attempted to kill init!")])
    assert timeline.panic == "Kernel panic - not syncing: sysrq triggered crash"
    assert timeline.capture_panic == "Kernel panic - not syncing: Attempted to kill init!"
    assert timeline.phase is Phase.CAPTURE_BOOT
    assert "Attempted to kill init" in timeline.stage


def test_a_timeline_that_heard_nothing_is_at_the_first_kernels_boot() -> None:
    assert Timeline().stage == "first kernel boots"
