"""From a path to the mount that holds it and the directory of its file system."""

from __future__ import annotations

import pytest

from kdumpd.errors import HostError
from kdumpd.host.mounts import answers_itself, directory_inside, holding, missing, parse, refusal

MOUNTS = parse("""\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 254:16 / /var rw,relatime shared:1 - xfs /dev/vdb rw
31 30 254:0 /srv/disk/crash /var/crash rw - ext4 /dev/vda rw
32 27 0:40 /@/home /home rw - btrfs /dev/vdc rw,subvolid=257,subvol=/@/home
33 27 254:32 / /mnt/with\\040blank rw - ext4 /dev/vdd rw
34 27 254:48 / /mnt/twice rw - ext4 /dev/vde rw
35 34 254:64 / /mnt/twice rw - xfs /dev/vdf rw
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


def test_a_mount_over_a_parent_hides_what_was_mounted_deeper() -> None:
    over = parse(
        """\
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 254:16 / /var/crash rw - xfs /dev/vdb rw
31 27 254:32 / /var rw - ext4 /dev/vdc rw
"""
    )
    assert holding(over, "/var/crash").source == "/dev/vdc"
    assert directory_inside(holding(over, "/var/crash"), "/var/crash") == "/crash"


def test_a_root_that_is_its_own_parent_or_was_mounted_over_is_understood() -> None:
    initramfs = parse("1 1 0:2 / / rw - rootfs rootfs rw\n20 1 254:0 / / rw - ext4 /dev/vda rw\n")
    assert holding(initramfs, "/var").source == "/dev/vda"


def test_in_a_root_that_is_no_mount_point_the_deepest_mount_counts() -> None:
    changed = parse("40 39 254:16 / /var rw - xfs /dev/vdb rw\n")
    assert holding(changed, "/var/crash").source == "/dev/vdb"


@pytest.mark.parametrize(
    ("path", "point"),
    [("/var/crash", "/var/crash"), ("/var/crash/here", "/var/crash"), ("/var/log", None), ("/home/x", None)],
)
def test_what_fstab_names_and_is_not_mounted_is_found(path: str, point: str | None) -> None:
    fstab = "UUID=1 / ext4 defaults\nUUID=2 /var/crash ext4 noauto 0 2\nUUID=3 none swap sw\n#UUID=4 /var xfs rw\n\n"
    here = parse("27 1 254:0 / / rw - ext4 /dev/vda rw\n")[0]
    assert missing(fstab, here, path) == point


def test_programs_and_servers_may_not_answer() -> None:
    assert answers_itself("ext4")
    assert answers_itself("overlay")
    assert not answers_itself("fuse.sshfs")
    assert not answers_itself("nfs4")


def test_a_path_without_any_mount_is_an_error() -> None:
    with pytest.raises(HostError, match="no mount holds it"):
        holding((), "/var/crash")


@pytest.mark.parametrize(
    "fstype", ["overlay", "zfs", "fuse.sshfs", "fuseblk", "tmpfs", "nfs4", "9p", "squashfs", "ceph", "gfs2", "autofs"]
)
def test_what_a_capture_kernel_cannot_write_is_refused_with_a_reason(fstype: str) -> None:
    assert "name a directory" in (refusal(fstype) or "")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "vfat"])
def test_local_file_systems_are_not_refused(fstype: str) -> None:
    assert refusal(fstype) is None
