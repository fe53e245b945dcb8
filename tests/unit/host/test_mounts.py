"""From a path to the mount that holds it and the directory of its file system."""

from __future__ import annotations

import pytest

from kdumpd.errors import HostError
from kdumpd.host.mounts import directory_inside, holding, parse, refusal

MOUNTS = parse("""\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 254:16 / /var rw,relatime shared:1 - xfs /dev/vdb rw
31 27 254:0 /srv/disk/crash /var/crash rw - ext4 /dev/vda rw
32 27 0:40 /@/home /home rw - btrfs /dev/vdc rw,subvolid=257,subvol=/@/home
33 27 254:32 / /mnt/with\\040blank rw - ext4 /dev/vdd rw
34 27 254:48 / /mnt/twice rw - ext4 /dev/vde rw
35 27 254:64 / /mnt/twice rw - xfs /dev/vdf rw
half a line
""")


def where(path: str) -> tuple[str, str]:
    mount = holding(MOUNTS, path)
    return mount.source, directory_inside(mount, path)


def test_the_deepest_mount_holds_a_path() -> None:
    assert where("/var/lib/dumps") == ("/dev/vdb", "/lib/dumps")
    assert where("/variable") == ("/dev/vda", "/variable")


def test_a_bind_mount_leads_to_the_directory_behind_it() -> None:
    assert where("/var/crash") == ("/dev/vda", "/srv/disk/crash")
    assert where("/var/crash/sub") == ("/dev/vda", "/srv/disk/crash/sub")


def test_a_btrfs_subvolume_is_a_directory_from_the_top() -> None:
    assert where("/home/crash") == ("/dev/vdc", "/@/home/crash")


def test_blanks_in_a_mount_point_are_understood() -> None:
    assert where("/mnt/with blank/x") == ("/dev/vdd", "/x")


def test_the_last_mount_on_one_place_hides_the_first() -> None:
    assert where("/mnt/twice/x") == ("/dev/vdf", "/x")


def test_a_path_without_any_mount_is_an_error() -> None:
    with pytest.raises(HostError, match="no mount holds it"):
        holding((), "/var/crash")


@pytest.mark.parametrize("fstype", ["overlay", "zfs", "fuse.sshfs", "fuseblk", "tmpfs", "nfs4", "9p", "squashfs"])
def test_what_a_capture_kernel_cannot_write_is_refused_with_a_reason(fstype: str) -> None:
    assert "name a directory" in (refusal(fstype) or "")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "vfat"])
def test_local_file_systems_are_not_refused(fstype: str) -> None:
    assert refusal(fstype) is None
