"""The VM's disks: made as asked, named for QEMU and for guests, and read from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.errors import RehearsalError
from kdumpd.policy import load
from kdumpd.rehearse import vmdisks
from kdumpd.rehearse.controllers import CONTROLLERS
from kdumpd.rehearse.scenario import Disk
from kdumpd.steps.build import CaptureTarget
from kdumpd.target import superblock

UUID = "5c0de0de-0000-4000-8000-00000000c0de"
SIZE = 64 << 20
POLICY = load.parse(b"targets: [{path: /var/crash}, {path: /fixed}]")


@pytest.fixture
def made(tmp_path: Path) -> tuple[vmdisks.VmDisk, ...]:
    """A disk that may not be written, one that is not there, one on NVMe with a UUID of its own."""
    return vmdisks.make(
        tmp_path,
        [
            Disk(("/fixed",), SIZE, read_only=True),
            Disk(("/gone",), SIZE, attached=False),
            Disk(("/var/crash",), SIZE, inside=("/srv/x",), uuid=UUID, controller=CONTROLLERS["nvme"], own_driver=True),
        ],
    )


def test_a_disk_has_the_uuid_that_it_was_asked_for(made: tuple[vmdisks.VmDisk, ...]) -> None:
    for one in made:
        found = superblock.read(str(one.path))
        assert found is not None
        assert (found.kind, found.uuid) == ("ext4", one.uuid)
    assert made[2].uuid == UUID


def test_disks_that_may_be_written_come_first_then_the_scratch_disk(
    made: tuple[vmdisks.VmDisk, ...], tmp_path: Path
) -> None:
    words = vmdisks.arguments(made, tmp_path / "scratch")
    devices = [word for word in words if "drive=" in word]
    assert devices == ["nvme,drive=disk0,serial=disk0", "virtio-blk-pci,drive=scratch", "virtio-blk-pci,drive=fixed0"]


def test_guests_find_them_by_uuid(made: tuple[vmdisks.VmDisk, ...]) -> None:
    written, fixed = vmdisks.in_guest(made)
    assert (written.device, written.made, written.read_only) == (f"UUID={UUID}", ("/srv/x",), False)
    assert fixed.read_only
    assert all(disk.read_only for disk in vmdisks.in_guest(made, read_only=True))


def test_targets_are_where_the_file_system_has_them(made: tuple[vmdisks.VmDisk, ...]) -> None:
    crash, fixed = vmdisks.targets(POLICY, made)
    assert crash == CaptureTarget(f"UUID={UUID}", "ext4", "/srv/x", "/var/crash")
    assert fixed.device == made[0].device
    with pytest.raises(RehearsalError, match="no disk of the scenario holds this target"):
        vmdisks.targets(POLICY, made[:2])


def test_only_what_the_image_need_not_bring_is_lent(made: tuple[vmdisks.VmDisk, ...]) -> None:
    assert vmdisks.lent_drivers(made) == ("virtio_pci", "virtio_blk")
    assert vmdisks.lent_drivers(made[2:]) == ()
    assert vmdisks.all_drivers(made[2:]) == ("virtio_pci", "virtio_blk", "nvme")


def test_layers_bring_their_modules_and_programs_and_are_made_on_another_file_system(tmp_path: Path) -> None:
    (disk,) = vmdisks.make(tmp_path, [Disk(("/x",), SIZE, kind="xfs", uuid=UUID, layers=("LVM", "RAID"))])
    assert disk.raw not in ("", disk.uuid)
    assert vmdisks.all_drivers((disk,))[-2:] == ("dm_mod", "raid1")
    assert vmdisks.programs((disk,)) == (("lvm", "lvm2"), ("mdadm", "mdadm"), ("mkfs.xfs", "xfsprogs"))
    (guest,) = vmdisks.in_guest((disk,))
    assert (guest.raw, guest.layers) == (f"UUID={disk.raw}", ("LVM", "RAID"))
    assert not vmdisks.readable(disk)
    assert vmdisks.targets(load.parse(b"targets: [{path: /x}]"), (disk,))[0].assembled


def test_what_lies_on_a_disk_is_taken_out(made: tuple[vmdisks.VmDisk, ...], tmp_path: Path) -> None:
    clean, saved = vmdisks.take_out(made[2], tmp_path / "saved")
    assert (clean, saved) == (True, ())
    crash = tmp_path / "saved/0/host-1"
    crash.mkdir(parents=True)
    (crash / "kdumpd.json").write_text("{broken")
    (one,) = vmdisks.crashes("/var/crash", (tmp_path / "saved/0").iterdir())
    assert (one.target, one.files, one.record) == ("/var/crash", ("kdumpd.json",), {})
