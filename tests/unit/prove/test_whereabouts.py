"""Targets found on a small machine made of files, whose disks answer or do not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NoReturn

import pytest

from kdumpd.host import target
from kdumpd.prove import asked
from kdumpd.prove.whereabouts import find
from tests.unit.host.machine import FakeMachine

ROOT = Path("/")


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "machine")


def test_what_comes_back_is_what_locate_finds(machine: FakeMachine) -> None:
    machine.write("run/udev/data/b8:1", "E:ID_FS_UUID=1234-abcd\n")
    (found,) = find(["/var/crash"], ROOT, machine.places)
    assert found.facts is not None
    assert (found.facts, found.why) == (target.locate("/var/crash", machine.places), "")
    assert (found.facts.uuid, found.facts.device.drivers) == ("1234-abcd", ("sd_mod", "ahci"))


def test_a_uuid_that_udev_does_not_know_is_read_from_the_disk(machine: FakeMachine) -> None:
    block = bytearray(4096)
    block[0:4], block[32:48] = b"XFSB", bytes(range(16))
    (machine.base / "dev").mkdir()
    (machine.base / "dev/sda1").write_bytes(block)
    (found,) = find(["/var/crash"], ROOT, machine.places)
    assert found.facts is not None
    assert found.facts.uuid == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_a_disk_whose_superblock_cannot_be_read_is_one_line_and_the_other_target_is_found(machine: FakeMachine) -> None:
    """Opening a pipe that nobody writes to never ends, as reading a disk that hangs."""
    (machine.base / "dev").mkdir()
    os.mkfifo(machine.base / "dev/sdb")
    machine.write("run/udev/data/b8:1", "E:ID_FS_UUID=1234-abcd\n")
    disk = machine.device("pci0000:00/0000:00:04.0/ata2/host1/target1:0:0/1:0:0:0/block/sdb", "8:16")
    assert disk.endswith("sdb")
    machine.mounts("27 1 8:1 / / rw - ext4 /dev/sda1 rw", "28 27 8:16 / /srv rw - ext4 /dev/sdb rw")
    started = time.monotonic()
    hung, good = find(["/srv/crash", "/var/crash"], ROOT, machine.places, deadline=1)
    assert time.monotonic() - started < 15
    assert hung == (
        None,
        "target /srv/crash: did not answer within 1 s: its disk hangs or is gone; see the kernel's log, "
        "or name another target",
    )
    assert good.facts is not None


def test_what_can_be_no_target_says_why(machine: FakeMachine) -> None:
    machine.mounts("27 1 0:5 / / rw - tmpfs tmpfs rw")
    (found,) = find(["/var/crash"], ROOT, machine.places)
    assert found.facts is None
    assert found.why.startswith("target /var/crash: lies on tmpfs (/): that is memory")
    (machine.base / "proc/self/mountinfo").unlink()
    (found,) = find(["/var/crash"], ROOT, machine.places)
    assert found.why == ("target /var/crash: cannot be looked at: No such file or directory; see the kernel's log")


def test_links_in_a_circle_are_one_line_and_no_disk_is_blamed(machine: FakeMachine) -> None:
    links = machine.base / "dev/disk/by-uuid"
    links.mkdir(parents=True)
    (links / "1234").symlink_to("1234")
    (found,) = find(["/var/crash"], ROOT, machine.places)
    assert found.facts is None
    assert found.why.startswith("target /var/crash: cannot be looked at: Symlink loop from ")
    assert found.why.endswith("; see where the symbolic links and mounts on its way lead")


def test_a_defect_of_the_look_is_told_as_one(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> NoReturn:
        raise KeyError("x")

    monkeypatch.setattr(target, "locate", defect)
    (found,) = find(["/var/crash"], ROOT, machine.places)
    assert found.why == (
        "target /var/crash: the process that looked ended with KeyError: 'x'; "
        "this is a defect of kdumpd, please report it"
    )


def test_a_target_whose_earlier_look_hangs_is_refused_at_once(machine: FakeMachine) -> None:
    (machine.base / "run/kdumpd").mkdir(parents=True)
    lock = asked.lock(machine.places.run, "whereabouts below /: /srv/crash")
    held = asked.hold(lock)
    assert held is not None
    asked.left(lock)
    started = time.monotonic()
    hung, good = find(["/srv/crash", "/var/crash"], ROOT, machine.places)
    assert time.monotonic() - started < 15
    assert hung.why == (
        "target /srv/crash: did not answer an earlier look, which still hangs: its disk hangs or is gone; "
        "see the kernel's log, or name another target"
    )
    assert good.facts is not None
    os.close(held)
