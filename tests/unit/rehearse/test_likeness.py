"""The VM's disks, made like the host's; and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

from kdumpd.host import program
from kdumpd.policy import load
from kdumpd.rehearse import likeness, report
from kdumpd.rehearse.controllers import CONTROLLERS, VIRTIO_BLK
from kdumpd.rehearse.likeness import HostDisk, like
from kdumpd.rehearse.scenario import Disk, Scenario
from kdumpd.steps.build import CaptureTarget
from tests.unit.host.machine import FakeMachine
from tests.unit.rehearse.rehearsal import outcome

UUID = "5c0de0de-0000-4000-8000-00000000c0de"
XFS = CaptureTarget(f"UUID={UUID}", "xfs", "/dumps", "/var/crash")
AHCI = HostDisk(("sd", "ahci"))


def makes(kind: str) -> str:
    return ""


def makes_ext4_alone(kind: str) -> str:
    return "" if kind == "ext4" else f"mkfs.{kind} is not installed"


def test_uuid_file_system_directory_and_controller_are_the_hosts() -> None:
    (disk,) = like([XFS], {"/var/crash": AHCI}, makes)
    assert (disk.uuid, disk.kind, disk.directories, disk.inside) == (UUID, "xfs", ("/var/crash",), ("/dumps",))
    assert disk.controller is CONTROLLERS["ahci"]
    assert (disk.own_driver, disk.own_kind, disk.unlike) == (True, True, ())


def test_targets_on_one_file_system_share_a_disk() -> None:
    second = XFS._replace(directory="/more", path="/srv/crash")
    (disk,) = like([XFS, second], {"/var/crash": AHCI, "/srv/crash": AHCI}, makes)
    assert disk.directories == ("/var/crash", "/srv/crash")
    assert disk.places == ("/dumps", "/more")


def test_another_controller_is_lent_and_said() -> None:
    (disk,) = like([XFS], {"/var/crash": HostDisk(("sd", "hpsa"))}, makes)
    assert (disk.controller, disk.own_driver) == (VIRTIO_BLK, False)
    (line,) = disk.unlike
    assert line.startswith("that the capture kernel drives this host's disk controller (drivers sd, hpsa), which QEMU")


def test_a_file_system_that_cannot_be_made_is_lent_and_said() -> None:
    (disk,) = like([XFS], {"/var/crash": AHCI}, makes_ext4_alone)
    assert (disk.kind, disk.own_kind, disk.uuid, disk.options) == ("ext4", False, UUID, "")
    assert disk.unlike == ("that the image mounts xfs (mkfs.xfs is not installed): the VM's /var/crash lay on ext4",)


def test_layers_that_can_be_made_are_and_an_array_of_one_disk_is_said() -> None:
    lvm, raid = (AHCI._replace(assembled=layers) for layers in (("LVM",), ("RAID",)))
    assembled = XFS._replace(assembled=True)
    if program.find("lvm") and program.find("mdadm"):
        (disk,) = like([assembled], {"/var/crash": lvm}, makes)
        assert (disk.layers, disk.unlike) == (("LVM",), ())
        (disk,) = like([assembled], {"/var/crash": raid}, makes)
        assert disk.layers == ("RAID",)
        assert disk.unlike == (
            "that the image puts an array of several disks together: the VM's for /var/crash had one",
        )


def test_layers_that_cannot_be_made_become_a_plain_disk_and_it_is_said() -> None:
    raid_on_lvm = AHCI._replace(assembled=("RAID", "LVM"))
    (disk,) = like([XFS._replace(assembled=True)], {"/var/crash": raid_on_lvm}, makes)
    assert disk.layers == ()
    assert disk.unlike == ("that the image puts RAID on LVM together: the VM's /var/crash lay on a plain disk",)
    lvm = AHCI._replace(assembled=("LVM",))
    (disk,) = like([XFS._replace(assembled=True)], {"/var/crash": lvm}, makes_ext4_alone)
    assert "that the image puts LVM together (mkfs.xfs is not installed)" in disk.unlike[1]


def test_a_device_without_a_uuid_gets_one_and_it_is_said() -> None:
    (disk,) = like([XFS._replace(device="/dev/sda1")], {"/var/crash": AHCI}, makes)
    assert disk.uuid == ""
    assert disk.unlike[0].startswith("that /dev/sda1 is found by that name")


def test_the_hosts_disks_are_looked_up_and_what_is_not_understood_is_left_out(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    policy = load.parse(b"targets: [{path: /var/crash}]")
    assert likeness.host_disks(policy, machine.places) == {"/var/crash": AHCI}
    machine.mounts("27 1 0:50 / / rw - overlay overlay rw")
    assert likeness.host_disks(policy, machine.places) == {}


def test_the_verdict_says_what_of_the_host_s_disks_was_not_there() -> None:
    made = outcome(None)

    def said(*disks: Disk) -> str:
        scenario = Scenario(made.scenario.policy, made.scenario.kernel, disks=disks)
        return "\n".join(report.unproven(outcome(None, scenario=scenario)))

    assert "this host's own AHCI controller answers after a crash as QEMU's did (/var/crash)" in said(
        *like([XFS], {"/var/crash": AHCI}, makes)
    )
    assert "(drivers sd, hpsa)" in said(*like([XFS], {"/var/crash": HostDisk(("sd", "hpsa"))}, makes))
    assert "(the VM's /var/crash lay on a virtio block device)" in said(Disk(("/var/crash",)))
