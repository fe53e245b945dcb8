"""Superblocks: made by mkfs where the machine has it, by hand from the format's description elsewhere."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdumpd.image.kernel import FILE_SYSTEMS
from kdumpd.target import superblock
from kdumpd.target.superblock import FileSystem

UUID = "0123abcd-4567-89ab-cdef-0123456789ab"
RAW = bytes.fromhex(UUID.replace("-", ""))


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_ext_as_mkfs_makes_it(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(16 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", kind, "-U", UUID, "-L", "dumps", str(image)], check=True)
    assert superblock.read(str(image)) == FileSystem(kind, UUID, "dumps")


def disk(tmp_path: Path, *parts: tuple[int, bytes]) -> str:
    content = bytearray(0x11000)
    for offset, data in parts:
        content[offset : offset + len(data)] = data
    (tmp_path / "disk").write_bytes(content)
    return str(tmp_path / "disk")


def test_xfs(tmp_path: Path) -> None:
    path = disk(tmp_path, (0, b"XFSB"), (32, RAW), (108, b"dumps"))
    assert superblock.read(path) == FileSystem("xfs", UUID, "dumps")


def test_btrfs(tmp_path: Path) -> None:
    path = disk(tmp_path, (0x10020, RAW), (0x10040, b"_BHRfS_M"), (0x1012B, b"dumps"))
    assert superblock.read(path) == FileSystem("btrfs", UUID, "dumps")
    path = disk(tmp_path, (0x10020, RAW), (0x10040, b"_BHRfS_M"), (0x10088, struct.pack("<Q", 3)))
    assert superblock.read(path) == FileSystem("btrfs", UUID, "", devices=3)


def test_fat32_and_fat16(tmp_path: Path) -> None:
    end = (510, b"\x55\xaa")
    path = disk(tmp_path, (67, bytes.fromhex("efbeadde")), (71, b"DUMPS      "), (82, b"FAT32   "), end)
    assert superblock.read(path) == FileSystem("vfat", "DEAD-BEEF", "DUMPS")
    path = disk(tmp_path, (39, bytes.fromhex("efbeadde")), (43, b"NO NAME    "), (54, b"FAT16   "), end)
    assert superblock.read(path) == FileSystem("vfat", "DEAD-BEEF", "")


def test_zeros_and_an_empty_device_hold_nothing(tmp_path: Path) -> None:
    assert superblock.read(disk(tmp_path)) is None
    (tmp_path / "empty").write_bytes(b"")
    assert superblock.read(str(tmp_path / "empty")) is None


def test_every_file_system_that_an_image_mounts_is_recognised(tmp_path: Path) -> None:
    def extended(compatible: int, incompatible: int) -> tuple[int, bytes]:
        return 1080, b"\x53\xef".ljust(36, b"\0") + struct.pack("<II", compatible, incompatible)

    made = {
        "ext2": [extended(0, 0)],
        "ext3": [extended(4, 0)],
        "ext4": [extended(4, 0x40)],
        "xfs": [(0, b"XFSB")],
        "btrfs": [(0x10040, b"_BHRfS_M")],
        "vfat": [(82, b"FAT32   "), (510, b"\x55\xaa")],
    }
    found = {kind: superblock.read(disk(tmp_path, *parts)) for kind, parts in made.items()}
    assert {kind: system.kind for kind, system in found.items() if system} == {kind: kind for kind in FILE_SYSTEMS}


@given(st.binary(max_size=8192))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("disk") / "disk"
    path.write_bytes(content)
    superblock.read(str(path))
