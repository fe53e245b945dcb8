"""The situation of a machine made of files: what stands in the way, and what the policy comes to there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.host import target
from kdumpd.plan import kernels
from kdumpd.plan.gather import capture_target, choose_boot, gather
from kdumpd.policy.load import default, parse
from kdumpd.policy.model import Boot
from tests.unit.host.machine import FakeMachine


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "machine")


def test_a_kernel_without_kexec_is_the_one_thing_said(machine: FakeMachine) -> None:
    (machine.base / "sys/kernel/kexec_crash_loaded").unlink()
    (blocked,) = gather(default(), places=machine.places).blocked
    assert blocked.startswith("kexec: the running kernel 6.1.0-9-test cannot load a crash kernel")
    assert blocked.endswith("boot a kernel that has it")


def test_a_machine_without_a_reservation_is_told_what_to_add(machine: FakeMachine) -> None:
    machine.write("sys/kernel/kexec_crash_size", "0\n")
    machine.write("proc/cmdline", "ro quiet\n")
    blocked = gather(default(), places=machine.places).blocked
    assert blocked[0].startswith("reservation: no memory is reserved for a crash kernel; add crashkernel=")


def test_a_reservation_that_failed_names_what_was_asked_for(machine: FakeMachine) -> None:
    machine.write("sys/kernel/kexec_crash_size", "0\n")
    blocked = gather(default(), places=machine.places).blocked
    assert blocked[0].startswith("reservation: the kernel could not reserve what its command line asks for (crashk")


def test_missing_kernel_files_are_named(machine: FakeMachine) -> None:
    blocked = gather(default(), places=machine.places).blocked
    assert [line.partition(";")[0] for line in blocked if line.startswith("kernel")] == [
        "kernel: there is no /lib/modules/6.1.0-9-test",
        "kernel: there is no /boot/vmlinuz-6.1.0-9-test",
    ]


def test_every_target_that_cannot_be_one_is_said(machine: FakeMachine) -> None:
    machine.mounts("27 1 8:1 / / rw - ext4 /dev/sda1 rw", "28 27 0:5 / /srv rw - tmpfs tmpfs rw")
    blocked = gather(parse(b"targets: [{path: /var/crash}, {path: /srv/crash}]"), places=machine.places).blocked
    (said,) = (line for line in blocked if line.startswith("target"))
    assert said.startswith("target /srv/crash: lies on tmpfs (/srv): that is memory")


def test_hints_that_cannot_be_obeyed_are_said(machine: FakeMachine) -> None:
    policy = parse(b"memmap: [{kind: ram, start: 0x100000, size: 64K}]")
    assert any(line.startswith("memmap[0]:") for line in gather(policy, places=machine.places).blocked)


def test_the_command_line_is_the_running_kernels_edited_by_the_policy(machine: FakeMachine) -> None:
    policy = parse(b"capture_kernel: {append: [nomodeset]}\nmemmap: [{kind: reserved, start: 0x1000000, size: 64K}]")
    line = gather(policy, places=machine.places).command_line
    assert line.startswith("console=ttyS0 irqpoll")
    assert line.endswith("memmap=64K$0x1000000 nomodeset")


def test_direct_is_chosen_for_plain_disks_and_dracut_for_assembled_ones(machine: FakeMachine) -> None:
    plain = target.locate("/var/crash", machine.places)
    volume = replace(plain, device=replace(plain.device, assembled=("LVM",), dracut_modules=("dm", "lvm")))
    assert (capture_target(plain).assembled, capture_target(volume).assembled) == (False, True)
    assert choose_boot(Boot.AUTO, [plain]) == ("direct", "every target is a plain local disk")
    assert choose_boot(Boot.AUTO, [plain, volume])[0] == "dracut"
    assert choose_boot(Boot.DRACUT, [plain]) == ("dracut", "capture_kernel.boot says so")
    with pytest.raises(HostError, match="direct cannot reach every target: /var/crash lies on LVM"):
        choose_boot(Boot.DIRECT, [volume])


def test_a_newer_kernel_has_a_situation_of_its_own_and_an_older_one_none(machine: FakeMachine) -> None:
    root = machine.base / "root"
    for release in ("6.1.0-8-test", "6.1.0-10-test"):
        machine.write(f"root/lib/modules/{release}/modules.dep", "")
        machine.write(f"root/boot/vmlinuz-{release}", "")
    assert kernels.newer(root, "6.1.0-9-test") == "6.1.0-10-test"
    found = gather(default(), root, machine.places, release="6.1.0-8-test")
    assert (found.facts.kernel.release, found.load, found.ahead) == ("6.1.0-8-test", False, None)
    assert found.image == root / "var/lib/kdumpd/6.1.0-8-test/capture.img"


def test_every_target_of_the_policy_is_in_the_situation_found_or_not(machine: FakeMachine) -> None:
    machine.mounts("27 1 8:1 / / rw - ext4 /dev/sda1 rw", "28 27 0:5 / /srv rw - tmpfs tmpfs rw")
    found = gather(parse(b"targets: [{path: /var/crash}, {path: /srv/crash}]"), places=machine.places)
    assert found.target_paths == ("/var/crash", "/srv/crash")
    assert found.nodes == {"/var/crash": "/dev/sda1"}
