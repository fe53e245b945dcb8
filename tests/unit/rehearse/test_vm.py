"""The machine's command line, its control protocol, and that it never outlives its block."""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kdumpd.errors import HostError, RehearsalError
from kdumpd.rehearse.vm import AARCH64, X86_64, Architecture, Line, Machine, Qmp, Vm, sparse_disk

# A stand-in for QEMU: a shell script that plays a guest's console.
FAKE = X86_64._replace(program="fake-qemu", package="fake-package")
FakeGuest = Callable[[str], Machine]


@pytest.fixture
def fake_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGuest:
    """A machine whose QEMU is the given shell script."""

    def make(script: str) -> Machine:
        program = tmp_path / FAKE.program
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return Machine(Path("vmlinuz"), Path("initrd"), "quiet", architecture=FAKE)

    return make


def test_the_disks_are_raw_virtio_disks_in_their_order() -> None:
    machine = Machine(Path("k"), Path("i"), "quiet", disks=(Path("/a,b"), Path("/c")))
    arguments = machine.arguments(accelerated=False, qmp=7)
    drives = [value for option, value in itertools.pairwise(arguments) if option == "-drive"]
    assert [drive.rpartition("file=")[2] for drive in drives] == ["/a,,b", "/c"]
    assert arguments[arguments.index("-accel") + 1] == "tcg,thread=multi"


def test_another_processors_machine_is_never_accelerated() -> None:
    other = AARCH64 if os.uname().machine == "x86_64" else X86_64
    machine = Machine(Path("k"), Path("i"), "quiet", architecture=other)
    arguments = machine.arguments(accelerated=True, qmp=7)
    assert arguments[arguments.index("-accel") + 1] == "tcg,thread=multi"


def test_console_lines_arrive_in_order_with_their_seconds(fake_guest: FakeGuest) -> None:
    heard: list[Line] = []
    with Vm(fake_guest("printf 'one\\r\\ntwo\\nthree'"), heard.append, kvm=False) as vm:
        vm.wait_end(10)
        assert [line.text for line in vm.lines] == ["one", "two", "three"]
    assert heard == vm.lines
    assert all(0 <= line.seconds < 10 for line in heard)


def test_a_line_that_was_printed_before_it_is_waited_for_is_found(fake_guest: FakeGuest) -> None:
    with Vm(fake_guest("echo armed; sleep 100"), kvm=False) as vm:
        assert vm.wait_line("^arm", 10).text == "armed"
        assert vm.wait_line("^arm", 10).text == "armed"


def test_a_guest_that_says_nothing_is_given_up_with_its_last_line(fake_guest: FakeGuest) -> None:
    with Vm(fake_guest("echo booting; sleep 100"), kvm=False) as vm:
        vm.wait_line("booting", 10)
        with pytest.raises(RehearsalError, match=r"said nothing of it for 0 s.*'booting'"):
            vm.wait_line("never", 0.1)


def test_a_guest_that_ends_too_early_is_told_from_a_silent_one(fake_guest: FakeGuest) -> None:
    with (
        Vm(fake_guest("echo bad >&2; exit 1"), kvm=False) as vm,
        pytest.raises(RehearsalError, match=r"ended \(bad\)"),
    ):
        vm.wait_line("never", 10)


def test_a_qemu_that_fails_says_why(fake_guest: FakeGuest) -> None:
    with (
        Vm(fake_guest("echo 'no such machine' >&2; exit 1"), kvm=False) as vm,
        pytest.raises(RehearsalError, match="fake-qemu failed: no such machine"),
    ):
        vm.wait_end(10)


def test_a_guest_that_hangs_is_said_to(fake_guest: FakeGuest) -> None:
    with (
        Vm(fake_guest("sleep 100"), kvm=False) as vm,
        pytest.raises(RehearsalError, match="still runs after 0 s"),
    ):
        vm.wait_end(0.1)


def test_the_machine_is_gone_after_its_block_whatever_happened(fake_guest: FakeGuest, tmp_path: Path) -> None:
    machine = fake_guest(f"echo $$ > {tmp_path}/pid; echo started; sleep 100")
    with pytest.raises(ZeroDivisionError), Vm(machine, kvm=False) as vm:
        vm.wait_line("started", 10)
        _ = 1 / 0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_machine_dies_with_the_program_that_started_it(fake_guest: FakeGuest, tmp_path: Path) -> None:
    machine = fake_guest(f"echo $$ > {tmp_path}/pid; echo started; exec sleep 100")
    child = os.fork()
    if child == 0:
        with Vm(machine, kvm=False) as vm:
            vm.wait_line("started", 10)
            os._exit(0)
    os.waitpid(child, 0)
    guest = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{guest}/cmdline").exists() and Path(f"/proc/{guest}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the machine outlived its program"
        time.sleep(0.02)


def test_a_missing_qemu_names_the_package_to_install() -> None:
    missing = Architecture("qemu-system-nosuch", "qemu-system-x86", "q35", "max", "ttyS0")
    machine = Machine(Path("k"), Path("i"), "", architecture=missing)
    with (
        pytest.raises(HostError, match="qemu-system-nosuch: not found; install it: apt-get install qemu-system-x86"),
        Vm(machine, kvm=False),
    ):
        pass


def answer(server: socket.socket, *answers: object) -> threading.Thread:
    """A QMP server that greets, then gives one answer to each command."""

    def serve() -> None:
        with server, server.makefile("rwb") as file:
            file.write(b'{"QMP": {}}\n')
            file.flush()
            for value in ({"return": {}}, *answers):
                file.readline()
                # Events come between, at any time.
                file.write(b'{"event": "RESUME"}\n' + json.dumps(value).encode() + b"\n")
                file.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_command_returns_its_value_past_events() -> None:
    ours, theirs = socket.socketpair()
    answer(theirs, {"return": {"running": True}})
    with closing(Qmp(ours)) as qmp:
        assert qmp.command("query-status", 5, {}) == {"running": True}


def test_a_refused_command_says_what_qemu_said() -> None:
    ours, theirs = socket.socketpair()
    answer(theirs, {"error": {"class": "GenericError", "desc": "no balloon"}})
    with closing(Qmp(ours)) as qmp, pytest.raises(RehearsalError, match="QMP balloon: no balloon"):
        qmp.command("balloon", 5, {"value": 1})


def test_a_qemu_that_does_not_answer_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with theirs, closing(Qmp(ours)) as qmp, pytest.raises(RehearsalError, match="QMP stop: QEMU does not answer"):
        qmp.command("stop", 0.1, {})


def test_a_disk_takes_no_space_until_it_is_written(tmp_path: Path) -> None:
    disk = sparse_disk(tmp_path / "disk", 1 << 30)
    assert disk.stat().st_size == 1 << 30
    assert disk.stat().st_blocks == 0
