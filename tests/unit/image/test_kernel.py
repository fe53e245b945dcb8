"""Kernel modules and firmware of an image."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kdumpd.errors import HostError
from kdumpd.host.modulefile import firmware_names, plain_bytes
from kdumpd.host.modules import ModuleIndex
from kdumpd.image import kernel
from kdumpd.steps.build import CaptureTarget
from tests.unit.image.elf import module
from tests.unit.image.kerneltree import RELEASE, tree

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
    ".gz": gzip.compress,
    "": bytes,
}
TARGET = CaptureTarget("UUID=1", "ext4", "/var/crash", "/var/crash", ("virtio_blk",))


def chosen(root: Path, *drivers: str) -> kernel.KernelFiles:
    index = ModuleIndex.read(tree(root))
    return kernel.choose(index, RELEASE, kernel.wanted(index, [TARGET], drivers), root / "lib/firmware")


def test_the_disks_driver_comes_first_then_the_file_system_each_after_what_it_needs(tmp_path: Path) -> None:
    names = [Path(inside).name for _, inside in chosen(tmp_path).modules]
    assert names == ["virtio.ko", "virtio_blk.ko", "crc32c_generic.ko", "jbd2.ko", "ext4.ko"]


def test_modules_are_staged_as_plain_elf(tmp_path: Path) -> None:
    kernel.stage(chosen(tmp_path), tmp_path / "staging")
    staged = tmp_path / "staging/usr/lib/modules" / RELEASE / "kernel/fs/ext4/ext4.ko"
    assert staged.read_bytes() == module("name=ext4")


def test_firmware_that_a_driver_names_and_that_is_installed_goes_in(tmp_path: Path) -> None:
    files = chosen(tmp_path, "qla2xxx")
    assert [inside for _, inside in files.firmware] == ["usr/lib/firmware/ql2400_fw.bin"]
    kernel.stage(files, tmp_path / "staging")
    assert (tmp_path / "staging/usr/lib/firmware/ql2400_fw.bin").read_bytes() == b"firmware of the 2400"


def test_a_file_system_that_no_image_mounts_is_refused(tmp_path: Path) -> None:
    index = ModuleIndex.read(tree(tmp_path))
    with pytest.raises(HostError, match="/var/crash: lies on reiserfs"):
        kernel.wanted(index, [TARGET._replace(fstype="reiserfs")])


def test_a_module_that_depmod_lists_and_nobody_installed_is_named(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    (folder / "kernel/drivers/virtio/virtio.ko").unlink()
    index = ModuleIndex.read(folder)
    with pytest.raises(HostError, match=r"virtio\.ko: listed in modules\.dep but missing"):
        kernel.choose(index, RELEASE, ["virtio_blk"], tmp_path)


def test_files_are_read_through_every_compression(tmp_path: Path) -> None:
    for suffix, compress in COMPRESSIONS.items():
        (tmp_path / f"m.ko{suffix}").write_bytes(compress(b"x" * 9))
        assert plain_bytes(tmp_path / f"m.ko{suffix}") == b"x" * 9


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_file_that_unpacks_to_more_than_any_module_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.ko{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](bytes(1 << 20)))
    assert len(plain_bytes(path, limit=1 << 20)) == 1 << 20
    with pytest.raises(HostError, match=r"is more than 1,048,575 bytes"):
        plain_bytes(path, limit=(1 << 20) - 1)


@pytest.mark.parametrize("suffix", [".xz", ".zst", ".gz"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.ko{suffix}"
    path.write_bytes(b"not compressed at all")
    with pytest.raises(HostError, match="cannot be decompressed"):
        plain_bytes(path)


def test_firmware_names_come_from_modinfo_and_what_is_no_elf_says_so() -> None:
    assert firmware_names(module("license=GPL", "firmware=a.bin", "firmware=b/c*.bin"), "m") == ("a.bin", "b/c*.bin")
    with pytest.raises(HostError, match="m: not a kernel module"):
        firmware_names(b"nonsense", "m")
