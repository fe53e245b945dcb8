"""What `--kernel` may name, and what is said when it names nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.rehearse import kernels
from kdumpd.rehearse.packages import Archive


def image(release: str) -> bytes:
    """The start of an x86 kernel file: the boot header points to the version text."""
    start = bytearray(0x4000)
    start[0x202:0x206] = b"HdrS"
    start[0x20E:0x210] = (0x3000 - 0x200).to_bytes(2, "little")
    text = f"{release} (builder@example) #1 SMP".encode() + b"\0"
    start[0x3000 : 0x3000 + len(text)] = text
    return bytes(start)


def tree(root: Path, release: str, split: bool = False) -> Path:
    """An unpacked kernel package, old style or split; its vmlinuz."""
    modules = root / "usr/lib/modules" / release
    modules.mkdir(parents=True)
    vmlinuz = modules / "vmlinuz" if split else root / "boot" / f"vmlinuz-{release}"
    vmlinuz.parent.mkdir(exist_ok=True)
    vmlinuz.write_bytes(image(release))
    return vmlinuz


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache whose package lists are fresh and offer nothing: the mirror is not asked."""
    stamp = tmp_path / "apt/amd64/refreshed"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    (tmp_path / "apt/amd64/private.sources").touch()
    return tmp_path


def test_the_release_of_an_x86_kernel_file_is_read_from_its_boot_header(tmp_path: Path) -> None:
    vmlinuz = tmp_path / "bzImage"
    vmlinuz.write_bytes(image("6.1.0-50-amd64"))
    assert kernels.release_of(vmlinuz) == "6.1.0-50-amd64"


def test_the_release_of_another_kernel_file_is_read_from_its_banner(tmp_path: Path) -> None:
    vmlinuz = tmp_path / "Image"
    vmlinuz.write_bytes(bytes(5000) + b"Linux version 6.12.1-arm64 (builder@example)")
    assert kernels.release_of(vmlinuz) == "6.12.1-arm64"


def test_a_compressed_kernel_file_has_the_release_of_its_name(tmp_path: Path) -> None:
    vmlinuz = tmp_path / "vmlinuz-6.12.1-arm64"
    vmlinuz.write_bytes(b"\x1f\x8b" + bytes(100))
    assert kernels.release_of(vmlinuz) == "6.12.1-arm64"


def test_a_file_that_is_no_kernel_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(HostError, match=r"notes\.txt: not a kernel image"):
        kernels.from_path(tmp_path / "notes.txt")


@pytest.mark.parametrize("split", [False, True])
def test_a_path_into_an_unpacked_package_finds_its_modules(tmp_path: Path, split: bool) -> None:
    vmlinuz = tree(tmp_path, "7.2.13-amd64", split)
    kernel = kernels.from_path(vmlinuz)
    assert kernel.release == "7.2.13-amd64"
    assert kernel.modules == tmp_path / "usr/lib/modules/7.2.13-amd64"


def test_a_kernel_without_modules_says_where_they_were_looked_for(tmp_path: Path) -> None:
    vmlinuz = tmp_path / "bzImage"
    vmlinuz.write_bytes(image("9.9.9-none"))
    with pytest.raises(HostError, match=r"no lib/modules/9\.9\.9-none"):
        kernels.from_path(vmlinuz)


def test_an_installed_kernel_needs_both_its_image_and_its_modules(tmp_path: Path) -> None:
    tree(tmp_path, "6.1.0-50-amd64")
    (tmp_path / "boot/vmlinuz-6.1.0-49-amd64").write_bytes(image("6.1.0-49-amd64"))
    assert kernels.installed("6.1.0-49-amd64", tmp_path) is None
    found = kernels.installed("6.1.0-50-amd64", tmp_path)
    assert found is not None
    assert found.vmlinuz == tmp_path / "boot/vmlinuz-6.1.0-50-amd64"


def test_a_name_that_is_neither_a_release_nor_a_package_is_refused() -> None:
    with pytest.raises(HostError, match=r"--kernel 6\.1\.0-nosuch: no /boot/vmlinuz-6\.1\.0-nosuch"):
        kernels.find("6.1.0-nosuch")


def test_a_package_version_fetched_before_needs_no_mirror(cache: Path) -> None:
    tree(cache / "kernels/linux-image-amd64_6.1.192-2_amd64", "6.1.0-56-amd64")
    (cache / "kernels/linux-image-amd64_6.1.192-2_amd64/lib").symlink_to("usr/lib")
    assert kernels.fetch("linux-image-amd64", "6.1.192-2", cache=cache).release == "6.1.0-56-amd64"


def test_without_the_mirror_the_series_fetched_last_serves(cache: Path) -> None:
    for version, release in (("6.1.190-1", "6.1.0-55-amd64"), ("6.1.192-2", "6.1.0-56-amd64"), ("6.12.1-1", "6.12.1")):
        tree(cache / f"kernels/linux-image-amd64_{version}_amd64", release)
        (cache / f"kernels/linux-image-amd64_{version}_amd64/lib").symlink_to("usr/lib")
        time.sleep(0.02)
    assert kernels.fetch("linux-image-amd64", "6.1", cache=cache).release == "6.1.0-56-amd64"


def test_without_the_mirror_and_without_a_copy_the_reason_is_said(cache: Path) -> None:
    with pytest.raises(HostError, match=r"linux-image-amd64: the mirror has no such package"):
        kernels.fetch("linux-image-amd64", "6.1", cache=cache)


def test_a_program_that_is_missing_is_named(cache: Path) -> None:
    with pytest.raises(HostError, match="no-such-package"):
        Archive(cache=cache).choose("no-such-package")
