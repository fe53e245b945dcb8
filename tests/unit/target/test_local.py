"""Finding, mounting and filling a local target."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from kdumpd.errors import TargetError
from kdumpd.target import local
from kdumpd.target.device import Device, Places, find, wait_for
from kdumpd.target.local import Place, attach, inside, make_directory, safe_name
from kdumpd.target.superblock import FileSystem

EXT4 = FileSystem("ext4", "0123abcd-4567-89ab-cdef-0123456789ab", "dumps")


def places(tmp_path: Path) -> Places:
    (tmp_path / "sys").mkdir()
    (tmp_path / "dev").mkdir()
    return Places(str(tmp_path / "sys"), str(tmp_path / "dev"))


RAW = bytes.fromhex(EXT4.uuid.replace("-", ""))


def add(
    tmp_path: Path, name: str, *, label: str = "dumps", uuid: bytes = RAW, holders: int = 0, sectors: int = 8
) -> None:
    entry = tmp_path / "sys" / name
    (entry / "holders").mkdir(parents=True)
    (entry / "size").write_text(f"{sectors}\n")
    for number in range(holders):
        (entry / "holders" / f"dm-{number}").mkdir()
    content = bytearray(4096)
    content[1080:1082] = b"\x53\xef"
    content[1128:1144] = uuid
    content[1144 : 1144 + len(label)] = label.encode()
    (tmp_path / "dev" / name).write_bytes(content)


def test_a_device_is_found_by_uuid_and_by_label(tmp_path: Path) -> None:
    where = places(tmp_path)
    add(tmp_path, "vda", label="root", uuid=bytes(16))
    add(tmp_path, "vdb")
    for name in ("LABEL=dumps", f"UUID={EXT4.uuid.upper()}"):
        found = find(name, where)
        assert found is not None
        assert (found.path, found.filesystem) == (f"{tmp_path}/dev/vdb", FileSystem("ext2", EXT4.uuid, "dumps"))
    assert find("LABEL=nothing", where) is None


def add_btrfs(tmp_path: Path, name: str, devices: int, holders: int = 0) -> None:
    """A device of a btrfs that lies on so many."""
    add(tmp_path, name, uuid=bytes(16), holders=holders)
    content = bytearray(0x11000)
    content[0x10020:0x10030] = RAW
    content[0x10040:0x10048] = b"_BHRfS_M"
    content[0x10088] = devices
    (tmp_path / "dev" / name).write_bytes(content)


def mounted_with(device: Device, tmp_path: Path) -> str:
    """The options that such a device is mounted with."""
    given = []

    def mount(device: str, directory: str, kind: str, options: str) -> None:
        given.append(options)

    place = Place(f"UUID={EXT4.uuid}", "btrfs", "/", "/var/crash", "subvolid=5")
    attach(place, device, str(tmp_path / "mnt"), mount)
    return given[0]


def test_every_device_of_a_btrfs_is_waited_for_and_named_when_it_is_mounted(tmp_path: Path) -> None:
    where, name = places(tmp_path), f"UUID={EXT4.uuid}"
    add_btrfs(tmp_path, "vda", 2)
    threading.Timer(0.1, add_btrfs, (tmp_path, "vdb", 2)).start()
    found = wait_for(name, time.monotonic() + 10, time.monotonic, where)
    assert mounted_with(found, tmp_path) == f"subvolid=5,device={tmp_path}/dev/vdb"


def test_a_btrfs_that_lost_a_device_is_mounted_without_it(tmp_path: Path) -> None:
    where, name = places(tmp_path), f"UUID={EXT4.uuid}"
    add_btrfs(tmp_path, "vda", 2)
    found = wait_for(name, time.monotonic(), time.monotonic, where)
    assert mounted_with(found, tmp_path) == "subvolid=5,degraded"


def test_a_disk_below_a_device_of_a_btrfs_is_not_one_of_them(tmp_path: Path) -> None:
    where, name = places(tmp_path), f"UUID={EXT4.uuid}"
    for disk, holders in (("sda", 1), ("dm-0", 0), ("sdb", 0)):
        add_btrfs(tmp_path, disk, 2, holders)
    found = find(name, where)
    assert found is not None
    assert found.members == (f"{tmp_path}/dev/dm-0", f"{tmp_path}/dev/sdb")


def test_a_mirror_is_never_one_of_its_members(tmp_path: Path) -> None:
    where, name = places(tmp_path), f"UUID={EXT4.uuid}"
    add(tmp_path, "sda1")
    assert find(name, where, assembled=True) is None
    with pytest.raises(TargetError, match="no such block device came up in time"):
        wait_for(name, time.monotonic(), time.monotonic, where, assembled=True)
    for assembled in ("md127", "dm-0"):
        add(tmp_path, assembled)
        found = find(name, where, assembled=True)
        assert found is not None
        assert found.path.endswith(assembled)
        (tmp_path / "dev" / assembled).unlink()


def test_of_two_devices_the_one_that_nothing_else_holds_is_taken(tmp_path: Path) -> None:
    where = places(tmp_path)
    add(tmp_path, "sda", holders=1)
    add(tmp_path, "sdb", holders=1)
    add(tmp_path, "dm-0")
    found = find("LABEL=dumps", where)
    assert found is not None
    assert found.path.endswith("/dm-0")


def test_an_empty_drive_and_an_unreadable_one_are_passed_over(tmp_path: Path) -> None:
    where = places(tmp_path)
    add(tmp_path, "sr0", sectors=0)
    add(tmp_path, "sdc")
    (tmp_path / "dev" / "sdc").unlink()
    assert find("LABEL=dumps", where) is None


def test_each_look_is_told_and_a_dead_device_is_not_looked_at(tmp_path: Path) -> None:
    told: list[str] = []
    dead = f"{tmp_path}/dev/vda"
    where = places(tmp_path)._replace(looking=told.append, dead=frozenset({dead}))
    add(tmp_path, "vda")
    add(tmp_path, "vdb")
    found = find("LABEL=dumps", where)
    assert found is not None
    assert told == [found.path, ""] == [f"{tmp_path}/dev/vdb", ""]
    with pytest.raises(TargetError, match="does not answer"):
        find(dead, where)


def test_a_device_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    where = places(tmp_path)
    threading.Timer(0.2, lambda: add(tmp_path, "vda")).start()
    assert wait_for("LABEL=dumps", time.monotonic() + 10, time.monotonic, where).path.endswith("/vda")


def test_a_device_that_never_comes_is_an_error_that_lists_what_is_there(tmp_path: Path) -> None:
    where = places(tmp_path)
    add(tmp_path, "vda", label="root")
    with pytest.raises(TargetError, match=r"LABEL=dumps: no such block device .* there are: vda; check .* driver"):
        wait_for("LABEL=dumps", time.monotonic(), time.monotonic, where)


def test_a_tag_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    where = places(tmp_path)
    add(tmp_path, "vda")
    with pytest.raises(TargetError, match="PARTUUID=1"):
        find("PARTUUID=1", where)


def test_a_plain_file_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "vda").write_bytes(bytes(4096))
    assert find(f"{tmp_path}/vda", Places()) is None


def test_mounting_tries_the_kind_of_the_target_and_then_that_of_the_superblock(tmp_path: Path) -> None:
    tried: list[tuple[str, str]] = []

    def mount(device: str, directory: str, kind: str, options: str) -> None:
        tried.append((kind, options))
        if kind == "ext3":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), device)

    place = Place("LABEL=dumps", "ext3", "/", "/", "noload")
    assert attach(place, Device("/dev/vda", EXT4), str(tmp_path / "p"), mount) == "ext4"
    assert tried == [("ext3", "noload"), ("ext4", "noload")]


def test_a_disk_that_cannot_be_mounted_to_write_says_errno(tmp_path: Path) -> None:
    def mount(device: str, directory: str, kind: str, options: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), device)

    with pytest.raises(TargetError, match=r"/dev/vda: .* as ext4: Read-only file system \(errno 30\)"):
        attach(Place("LABEL=dumps", "ext4", "/", "/"), Device("/dev/vda", EXT4), str(tmp_path / "p"), mount)
    with pytest.raises(TargetError, match="holds no file system that kdumpd knows"):
        attach(Place("/dev/vda", "", "/", "/"), Device("/dev/vda", None), str(tmp_path / "p"), mount)


def test_each_crash_gets_a_directory_of_its_own(tmp_path: Path) -> None:
    names = [Path(make_directory(f"{tmp_path}/var/crash", "web.example", 1_700_000_000.0)).name for _ in range(3)]
    assert names == ["web.example-20231114-221320", "web.example-20231114-221320-2", "web.example-20231114-221320-3"]
    assert stat.S_IMODE((tmp_path / "var/crash" / names[0]).stat().st_mode) == 0o700


def test_each_new_directory_of_the_path_is_open_to_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    make_directory(f"{tmp_path}/var/lib/crash", "web", 1_700_000_000.0)
    os.umask(before)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("var", "var/lib", "var/lib/crash")]
    assert modes == [0o700] * 3


def test_a_path_that_cannot_be_made_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")
    with pytest.raises(TargetError, match=f"{tmp_path}/var: cannot be made: File exists"):
        make_directory(f"{tmp_path}/var/crash", "web", 1_700_000_000.0)


def test_a_link_inside_the_target_is_followed_and_one_that_leads_out_of_it_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    (root / "srv").mkdir(parents=True)
    (root / "var").symlink_to("srv")
    assert inside(str(root), "/var/crash") == f"{root}/var/crash"
    assert inside(str(root), "/") == str(root)
    (root / "crash").symlink_to("/srv/crash")
    (root / "near").symlink_to(f"{root}2")
    for directory in ("/crash", "/crash/deeper", "/../elsewhere", "/near"):
        with pytest.raises(TargetError, match="leads out of the target's file system"):
            inside(str(root), directory)


def test_a_host_name_is_made_safe() -> None:
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name("") == "unknown"
    assert safe_name("a" * 500) == "a" * 64
    assert safe_name("h\u00f6st name\n") == "h_st_name_"


def test_free_bytes_are_what_statvfs_says(tmp_path: Path) -> None:
    assert local.free_bytes(str(tmp_path)) > 0
