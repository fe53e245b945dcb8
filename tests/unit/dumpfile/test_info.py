"""What a dump tells, and how a log's panic is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.dumpfile.info import info, panic_message
from kdumpd.dumpfile.reader import Dump
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash


def test_a_dump_tells_who_crashed_when_why_and_what_is_in_it(core: Vmcore, tmp_path: Path) -> None:
    report = crash.dump(core, tmp_path / "dump", crash.options(level=17), [(0x500, 2000)])
    everything = crash.dump(core, tmp_path / "all", crash.options(level=17))
    with Dump.open(str(tmp_path / "all")) as dump:
        result = info(dump)
    assert (result.complete, result.size) == (True, everything.size)
    assert (result.release, result.machine, result.nodename) == (core.info.release, "x86_64", "crashed")
    assert result.crash_time == 1700000000
    assert result.panic == crash.PANIC.decode()
    assert (result.level, result.excluded, result.compression) == (17, ("zero", "free"), "zstd")
    assert (result.page_size, result.processors) == (4096, 2)
    assert result.written_by is not None
    assert result.pages["zero"] == everything.zero
    with Dump.open(str(tmp_path / "dump")) as dump:
        part = info(dump)
    memory = sum(count for _, count in crash.all_memory(core))
    assert (part.pages["memory"], part.pages["kept"], part.pages["free"]) == (memory, 2000, memory - 2000)
    assert report.pages == 2000
    assert part.panic is None
    assert part.log_error is not None  # the page tables are not among those pages


def test_the_log_of_a_dump_is_the_log_of_the_vmcore(core: Vmcore, dump_path: Path) -> None:
    with Dump.open(str(dump_path)) as dump:
        assert list(dump.dmesg()) == list(core.dmesg())


def test_a_dump_of_damaged_notes_still_tells_what_its_header_does(dump_path: Path, tmp_path: Path) -> None:
    content = bytearray(dump_path.read_bytes())
    content[4096 + 104 : 4096 + 104 + 800] = bytes(800)
    (tmp_path / "dump").write_bytes(content)
    with Dump.open(str(tmp_path / "dump")) as dump:
        result = info(dump)
    assert result.release == "6.1.0-18-amd64" or result.release
    assert result.panic is None
    assert result.log_error is not None


def test_control_characters_of_a_hostile_header_do_not_reach_the_terminal(dump_path: Path, tmp_path: Path) -> None:
    content = bytearray(dump_path.read_bytes())
    place = content.index(b"crashed")
    content[place : place + 7] = b"\x1b[31m\xff\n"
    (tmp_path / "dump").write_bytes(content)
    with Dump.open(str(tmp_path / "dump")) as dump:
        assert info(dump).nodename == "?[31m\ufffd?"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [
                b"[   13.1] sysrq: Trigger a crash\n",
                b"[   13.2] [      T1] Kernel panic - not syncing: sysrq triggered crash",
            ],
            "Kernel panic - not syncing: sysrq triggered crash",
        ),
        (
            [b"[   13.100000] [  T200] sysrq: Trigger a crash\n"],
            "sysrq: Trigger a crash",
        ),
        (
            [
                b"[    9.000001] BUG: kernel NULL pointer dereference, address: 0000000000000000\n",
                b"[    9.000002] Oops: 0002 [#1] PREEMPT SMP\n",
                b"[    9.000003] Kernel panic - not syncing: Fatal exception\n",
            ],
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        ),
        (
            [
                b"[    9.000001] BUG: kernel NULL pointer dereference, address: 0000000000000000\n",
                b"[    9.000002] Oops: 0002 [#1] PREEMPT SMP\n",
            ],
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        ),
        (
            [b"[    9.000002] Oops: general protection fault, 0000 [#1] SMP\n"],
            "Oops: general protection fault, 0000 [#1] SMP",
        ),
        (
            [
                b"[    5.000000] Out of memory: Killed process 7\n",
                b"[    5.000001] Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled\n",
                b"[    5.000001] BUG: scheduling while atomic\n",
            ],
            "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled",
        ),
        (
            [b"[    5.000001] [    C0] Kernel panic - not syncing: NMI: Not continuing\n"],
            "Kernel panic - not syncing: NMI: Not continuing",
        ),
        ([b"[    0.000000] Linux version 6.1.0\n", b"a line without a time\n"], None),
    ],
)
def test_the_panic_message_is_the_line_that_names_the_cause(lines: list[bytes], message: str | None) -> None:
    assert panic_message(lines) == message
