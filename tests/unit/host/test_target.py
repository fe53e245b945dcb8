"""A target on a machine: its device by UUID, its file system, the drivers down to the root of the device tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.host.target import locate, resolve
from tests.unit.host.machine import FakeMachine


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_a_partition_is_reached_by_its_disks_drivers_nearest_first(machine: FakeMachine) -> None:
    found = locate("/var/crash", machine.places)
    assert (found.node, found.fstype, found.directory) == ("/dev/sda1", "ext4", "/var/crash")
    assert found.device.drivers == ("sd_mod", "ahci")
    assert found.device.assembled == ()


def test_a_driver_that_is_built_in_is_named_by_what_it_drives(machine: FakeMachine) -> None:
    path = machine.device("pci0000:00/0000:00:05.0/virtio1/block/vda", "254:0")
    machine.driver("pci0000:00/0000:00:05.0/virtio1", "virtio_blk", modalias="virtio:d00000002v00001AF4")
    machine.mounts("27 1 254:0 / / rw - ext4 /dev/vda rw")
    assert path.endswith("vda")
    assert locate("/", machine.places).device.drivers == ("virtio:d00000002v00001AF4",)


def test_the_uuid_is_what_udev_read(machine: FakeMachine) -> None:
    assert locate("/", machine.places).uuid is None
    machine.write("run/udev/data/b8:1", "S:disk\nE:ID_FS_UUID=1234-abcd\n")
    assert locate("/", machine.places).uuid == "1234-abcd"


def test_without_udevs_database_the_uuid_is_that_of_its_link(machine: FakeMachine) -> None:
    machine.write("dev/sda1", "")
    machine.link("dev/disk/by-uuid/feed-beef", "dev/sda1")
    assert locate("/", machine.places).uuid == "feed-beef"


def mapped(machine: FakeMachine, number: int, uuid: str, slave: str) -> str:
    """A device-mapper device over another; its path below /sys/devices."""
    path = machine.device(f"virtual/block/dm-{number}", f"253:{number}")
    machine.write(f"sys/devices/{path}/dm/uuid", f"{uuid}\n")
    machine.link(f"sys/devices/{path}/slaves/{Path(slave).name}", f"sys/devices/{slave}")
    return path


def test_a_logical_volume_needs_dracut_and_the_disks_drivers(machine: FakeMachine) -> None:
    mapped(machine, 1, "LVM-abc", machine.partition)
    machine.mounts("27 1 253:1 / / rw - xfs /dev/mapper/vg-root rw")
    device = locate("/", machine.places).device
    assert device.assembled == ("LVM",)
    assert device.dracut_modules == ("dm", "lvm")
    assert device.drivers == ("sd_mod", "ahci")


@pytest.mark.parametrize(("uuid", "kind"), [("mpath-x", "mpath"), ("", "device mapper"), ("VDO-1", "VDO")])
def test_what_no_image_can_put_together_is_refused_wherever_it_lies_below(
    machine: FakeMachine, uuid: str, kind: str
) -> None:
    below = mapped(machine, 0, uuid, machine.partition)
    machine.write(f"sys/devices/{below}/dm/name", "big\n")
    mapped(machine, 1, "LVM-abc", below)
    machine.mounts("27 1 253:1 / / rw - xfs /dev/mapper/vg-root rw")
    with pytest.raises(
        HostError, match=rf"lies on big \({kind}\), .*; name a directory on a plain local disk, LVM or RAID"
    ):
        locate("/var/crash", machine.places)


def test_an_encrypted_disk_is_refused_wherever_it_lies_below(machine: FakeMachine) -> None:
    mapped(machine, 1, "LVM-abc", mapped(machine, 0, "CRYPT-LUKS2-x", machine.partition))
    machine.mounts("27 1 253:1 / / rw - xfs /dev/mapper/vg-root rw")
    with pytest.raises(HostError, match="the encrypted dm-0, whose key a capture kernel does not have"):
        locate("/var/crash", machine.places)


def test_a_raid_needs_its_own_module(machine: FakeMachine) -> None:
    machine.device("virtual/block/md0", "9:0")
    (machine.base / "sys/devices/virtual/block/md0/md").mkdir()
    machine.link("sys/devices/virtual/block/md0/slaves/sda1", f"sys/devices/{machine.partition}")
    machine.mounts("27 1 9:0 / / rw - ext4 /dev/md0 rw")
    assert locate("/", machine.places).device.dracut_modules == ("mdraid",)


def test_a_loop_device_and_a_disk_in_memory_are_refused(machine: FakeMachine) -> None:
    machine.device("virtual/block/loop0", "7:0")
    (machine.base / "sys/devices/virtual/block/loop0/loop").mkdir()
    machine.mounts("27 1 7:0 / / rw - ext4 /dev/loop0 rw")
    with pytest.raises(HostError, match="loop device loop0, a file"):
        locate("/", machine.places)
    machine.device("virtual/block/zram0", "252:0")
    machine.mounts("27 1 252:0 / / rw - ext4 /dev/zram0 rw")
    with pytest.raises(HostError, match="zram0, which is memory"):
        locate("/", machine.places)


def nvme_with_multipath(machine: FakeMachine, controller: str) -> None:
    """A namespace below its subsystem, which links to its controller below `controller`."""
    disk = machine.device("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "259:0")
    machine.write(f"sys/devices/{controller}/nvme/nvme0/model", "fast\n")
    machine.link(f"sys/devices/{disk}/../nvme0", f"sys/devices/{controller}/nvme/nvme0")
    machine.mounts("27 1 259:0 / / rw - ext4 /dev/nvme0n1 rw")


def test_nvme_with_native_multipath_is_reached_by_the_drivers_of_its_controllers(machine: FakeMachine) -> None:
    nvme_with_multipath(machine, "pci0000:00/0000:00:06.0")
    machine.driver("pci0000:00/0000:00:06.0", "nvme", module="nvme")
    assert locate("/", machine.places).device.drivers == ("nvme",)


def test_nvme_over_a_network_is_refused(machine: FakeMachine) -> None:
    nvme_with_multipath(machine, "virtual/nvme-fabrics/ctl")
    with pytest.raises(HostError, match="nvme0n1, an NVMe disk on a network; network targets are not supported yet"):
        locate("/", machine.places)


@pytest.mark.parametrize("name", ["nbd0", "drbd0", "rbd0"])
def test_a_disk_without_a_driver_above_it_is_no_local_disk(machine: FakeMachine, name: str) -> None:
    machine.device(f"virtual/block/{name}", "43:0")
    machine.mounts(f"27 1 43:0 / / rw - ext4 /dev/{name} rw")
    with pytest.raises(HostError, match=f"lies on {name}, which no driver of a disk controller holds; name a dir"):
        locate("/", machine.places)


def test_an_iscsi_disk_is_refused_though_a_network_card_has_a_driver(machine: FakeMachine) -> None:
    machine.device("pci0000:00/0000:00:07.0/host5/session1/target5:0:0/5:0:0:0/block/sdb", "8:16")
    machine.driver("pci0000:00/0000:00:07.0", "qla4xxx", module="qla4xxx")
    machine.mounts("27 1 8:16 / / rw - ext4 /dev/sdb rw")
    with pytest.raises(HostError, match="sdb, an iSCSI disk"):
        locate("/", machine.places)


def test_an_overlay_is_refused_in_the_targets_name(machine: FakeMachine) -> None:
    machine.mounts("27 1 0:50 / / rw - overlay overlay rw,lowerdir=/a")
    with pytest.raises(HostError, match=r"target /var/crash: lies on overlay \(/\)"):
        locate("/var/crash", machine.places)


def test_btrfs_is_found_by_the_disk_it_was_mounted_from_and_mounted_from_its_top(machine: FakeMachine) -> None:
    machine.mounts("27 1 0:33 /@rootfs / rw - btrfs /dev/sda1 rw,subvolid=256,subvol=/@rootfs")
    found = locate("/var/crash", machine.places)
    assert (found.directory, found.options) == ("/@rootfs/var/crash", "subvolid=5")
    assert found.device.drivers == ("sd_mod", "ahci")


def second_disk(machine: FakeMachine) -> None:
    """sdb on an NVMe controller's bus, for what lies on two disks."""
    machine.device("pci0000:00/0000:00:06.0/nvme/nvme0/nvme0n1", "259:0")
    machine.driver("pci0000:00/0000:00:06.0", "nvme", module="nvme")


def test_btrfs_of_two_disks_needs_the_drivers_of_both(machine: FakeMachine) -> None:
    second_disk(machine)
    machine.mounts("27 1 0:33 / / rw - btrfs /dev/sda1 rw")
    for name in ("sda1", "nvme0n1"):
        machine.write(f"sys/fs/btrfs/uuid-1/devices/{name}", "")
    found = locate("/var/crash", machine.places)
    assert found.node == "/dev/sda1"
    assert found.device.drivers == ("sd_mod", "ahci", "nvme")
    assert found.device.assembled == ()


def test_btrfs_with_a_disk_that_is_gone_is_one_error(machine: FakeMachine) -> None:
    machine.mounts("27 1 0:33 / / rw - btrfs /dev/sda1 rw")
    for name in ("sda1", "sdb1"):
        machine.write(f"sys/fs/btrfs/uuid-1/devices/{name}", "")
    with pytest.raises(HostError, match="target /var/crash: sdb1 is no block device here"):
        locate("/var/crash", machine.places)


def test_drivers_have_their_names_in_sysfs_too_built_in_or_not(machine: FakeMachine) -> None:
    assert locate("/", machine.places).device.driver_names == ("sd", "ahci")


def test_a_file_system_of_fstab_that_is_not_mounted_is_warned_of(machine: FakeMachine) -> None:
    machine.write("etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1  /var/crash xfs noauto 0 0\n# /dev/x /var x\n")
    (warning,) = locate("/var/crash", machine.places).warnings
    assert (
        "names a file system for /var/crash that is not mounted; a dump would go to /dev/sda1, the disk of /" in warning
    )
    assert locate("/srv", machine.places).warnings == ()
    machine.mounts("27 1 8:1 / / rw - ext4 /dev/sda1 rw", "28 27 8:1 /x /var/crash rw - ext4 /dev/sda1 rw")
    assert locate("/var/crash/today", machine.places).warnings == ()


def test_a_disk_that_can_be_taken_out_is_warned_of_and_one_in_a_hot_plug_bay_is_not(machine: FakeMachine) -> None:
    machine.write(f"sys/devices/{machine.disk}/removable", "1\n")
    assert locate("/var/crash", machine.places).warnings == ()
    machine.device("pci0000:00/0000:00:14.0/usb1/1-1/host9/target9:0:0/9:0:0:0/block/sdz", "65:144")
    machine.driver("pci0000:00/0000:00:14.0/usb1/1-1", "usb-storage", module="usb_storage")
    machine.mounts("27 1 65:144 / / rw - ext4 /dev/sdz rw")
    (warning,) = locate("/var/crash", machine.places).warnings
    assert "lies on sdz, which can be taken out; a crash then finds no target there" in warning


def test_what_hangs_is_refused_without_being_asked(machine: FakeMachine, tmp_path: Path) -> None:
    """A name below a FUSE mount is never looked up: here it would be a link in a circle."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt/loop").symlink_to("loop")
    machine.mounts("27 1 8:1 / / rw - ext4 /dev/sda1 rw", f"28 27 0:50 / {tmp_path}/mnt rw - fuse.sshfs there rw")
    with pytest.raises(HostError, match=r"lies on fuse.sshfs .*: a FUSE file system needs its own program"):
        locate(f"{tmp_path}/mnt/loop/crash", machine.places)


def test_a_symbolic_link_is_followed_to_where_it_really_lies(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "root/srv").mkdir(parents=True)
    (tmp_path / "root/crash").symlink_to("srv/dumps")
    found = locate("/crash", machine.places, tmp_path / "root")
    assert found.directory == f"{tmp_path}/root/srv/dumps"


def test_an_absolute_link_counts_from_the_root_that_it_lies_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "srv").mkdir(parents=True)
    (root / "crash").symlink_to("/srv/../srv/./dumps")
    (root / "up").symlink_to("../../../../srv")
    assert resolve("/crash/today", root) == f"{root}/srv/dumps/today"
    assert resolve("/up", root) == f"{root}/srv"


def test_links_in_a_circle_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(HostError, match="target /a: too many symbolic links"):
        resolve("/a", tmp_path)
