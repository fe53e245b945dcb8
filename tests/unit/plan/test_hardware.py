"""Memory and processors that come after the load: a reload, unless the kernel itself tells what is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.host import facts, hardware
from kdumpd.host.facts import Hardware
from kdumpd.host.target import Places
from kdumpd.plan.decide import decide
from kdumpd.steps.load import LoadCrashKernel
from kdumpd.steps.reason import Cause
from tests.unit.plan.test_decide import ARMED, FACTS, LOADED

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-7ffdbfff : System RAM
  6d000000-78ffffff : Crash kernel
100000000-10fffffff : System RAM (virtio_mem)
"""
BEFORE, AFTER = "00100000-7fffffff", "00100000-7fffffff 100000000-10fffffff"


def _reasons(now: Hardware, cpus: str = "0-1", memory: str = BEFORE) -> list[tuple[Cause, str]]:
    record = replace(LOADED, cpus=cpus, memory=memory)
    situation = replace(ARMED, facts=replace(FACTS, hardware=now), state=replace(ARMED.state, loaded=record))
    steps = decide(situation).steps
    assert all(isinstance(step, LoadCrashKernel) for step in steps)
    return [(reason.cause, reason.text) for step in steps for reason in step.reasons]


def test_what_is_as_it_was_calls_for_nothing() -> None:
    assert _reasons(Hardware("0-1", BEFORE)) == []


def test_memory_that_was_added_calls_for_a_load_of_the_same_image() -> None:
    text = "the memory changed, which the loaded crash kernel does not know: 2047 MiB to 2303 MiB"
    assert _reasons(Hardware("0-1", AFTER)) == [(Cause.HARDWARE, text)]


def test_a_processor_that_was_added_does_too() -> None:
    text = "the processors changed, which the loaded crash kernel does not know: 0-1 to 0-2"
    assert _reasons(Hardware("0-2", BEFORE)) == [(Cause.HARDWARE, text)]


def test_a_kernel_that_follows_needs_no_load() -> None:
    assert _reasons(Hardware("0-2", AFTER, follows_cpus=True, follows_memory=True)) == []
    assert [cause for cause, _ in _reasons(Hardware("0-2", AFTER, follows_cpus=True))] == [Cause.HARDWARE]


@pytest.mark.parametrize("unknown", [{"cpus": ""}, {"memory": ""}])
def test_a_record_that_does_not_know_is_no_reason(unknown: dict[str, str]) -> None:
    assert len(_reasons(Hardware("0-2", AFTER), **unknown)) == 1


def test_the_facts_are_read_where_the_kernel_shows_them(tmp_path: Path) -> None:
    places = Places(proc=tmp_path / "proc", sys=tmp_path / "sys")
    for path, text in {
        "proc/iomem": IOMEM,
        "sys/devices/system/cpu/present": "0-3\n",
        "sys/devices/system/memory/crash_hotplug": "1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    ranges = "00001000-0009fbff 00100000-7ffdbfff 100000000-10fffffff"
    assert facts.read(tmp_path, places).hardware == Hardware("0-3", ranges, follows_memory=True)
    assert hardware.size(ranges) == 0x9EC00 + 0x7FEDC000 + 0x10000000


def test_addresses_that_the_kernel_hides_are_not_taken_for_memory() -> None:
    assert hardware.memory("00000000-00000000 : System RAM\n") == ""
