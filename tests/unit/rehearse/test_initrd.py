"""The cpio writer against cpio itself; modules in the order they load; programs with what they need."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.rehearse.initrd import Initrd, has_module, module_files
from kdumpd.rehearse.kernels import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel with a module that needs two others, and one that is built in."""
    modules = tmp_path / "lib/modules/6.1.0"
    (modules / "kernel").mkdir(parents=True)
    (modules / "modules.dep").write_text(
        "kernel/ext4.ko: kernel/jbd2.ko.xz kernel/crc16.ko\n"
        "kernel/jbd2.ko.xz: kernel/crc16.ko\n"
        "kernel/crc16.ko:\n"
        "kernel/virtio-rng.ko:\n"
    )
    (modules / "modules.builtin").write_text("kernel/virtio_ring.ko\n")
    for name in ("ext4.ko", "crc16.ko", "virtio-rng.ko"):
        (modules / "kernel" / name).write_bytes(name.encode())
    (modules / "kernel/jbd2.ko.xz").write_bytes(lzma.compress(b"jbd2.ko"))
    return Kernel("6.1.0", tmp_path / "boot/vmlinuz-6.1.0", modules, None)


def listing(archive: bytes) -> list[str]:
    """What cpio sees in the archive."""
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True)
    return [" ".join(line.split()[:1] + line.split()[8:]) for line in done.stdout.decode().splitlines()]


def test_cpio_reads_files_folders_links_and_devices(tmp_path: Path) -> None:
    initrd = Initrd()
    initrd.file("/sbin/init", "#!/bin/sh\n", 0o755)
    initrd.link("/bin", "sbin")
    initrd.folder("/root", 0o700)
    initrd.device("/dev/console", "c", 5, 1)
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=initrd.to_bytes(), capture_output=True, check=True)
    lines = [(line.split()[0], line.split()[-1]) for line in done.stdout.decode().splitlines()]
    assert ("-rwxr-xr-x", "sbin/init") in lines
    assert ("drwx------", "root") in lines
    assert ("crw-------", "dev/console") in lines
    assert ("drwxr-xr-x", "sbin") in lines
    assert b"bin -> sbin" in done.stdout


def test_contents_come_back_whole_whatever_their_length(tmp_path: Path) -> None:
    initrd = Initrd()
    for length in range(10):
        initrd.file(f"/data/{length}", bytes(range(length)))
    subprocess.run(["cpio", "-id", "--quiet"], input=initrd.to_bytes(), cwd=tmp_path, check=True)
    assert [(tmp_path / f"data/{length}").read_bytes() for length in range(10)] == [
        bytes(range(length)) for length in range(10)
    ]


def test_the_same_additions_give_the_same_bytes_in_any_order() -> None:
    one, other = Initrd(), Initrd()
    one.file("/a", "1")
    one.file("/b/c", "2")
    other.file("/b/c", "2")
    other.file("/a", "1")
    assert one.to_bytes() == other.to_bytes()


def test_a_later_addition_replaces_an_earlier_one() -> None:
    initrd = Initrd()
    initrd.file("/a", "before")
    initrd.file("/a", "after")
    assert b"before" not in initrd.to_bytes()


def test_parents_come_before_what_they_hold() -> None:
    initrd = Initrd()
    initrd.file("/usr/lib/x", "")
    names = [line.split()[-1] for line in listing(initrd.to_bytes())]
    assert names == ["usr", "usr/lib", "usr/lib/x"]


def test_modules_come_in_the_order_to_load_them_each_once(kernel: Kernel) -> None:
    files = module_files(kernel, ["ext4", "crc16", "virtio_ring"])
    assert [path.name for path in files] == ["crc16.ko", "jbd2.ko.xz", "ext4.ko"]


def test_a_module_is_found_by_dash_or_underscore(kernel: Kernel) -> None:
    assert [path.name for path in module_files(kernel, ["virtio_rng"])] == ["virtio-rng.ko"]
    assert has_module(kernel, "virtio-rng")
    assert not has_module(kernel, "virtio_ring")


def test_a_module_that_the_kernel_lacks_is_named(kernel: Kernel) -> None:
    with pytest.raises(HostError, match="has no module btrfs"):
        module_files(kernel, ["btrfs"])


def test_a_tree_without_depmod_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"modules\.dep: .*run depmod"):
        module_files(Kernel("6.1.0", tmp_path / "vmlinuz", tmp_path, None), ["ext4"])


def test_modules_lie_uncompressed_in_the_archive(kernel: Kernel, tmp_path: Path) -> None:
    initrd = Initrd()
    assert initrd.module_tree(kernel, ["jbd2"]) == ("/modules/00-crc16.ko", "/modules/01-jbd2.ko")
    subprocess.run(["cpio", "-id", "--quiet"], input=initrd.to_bytes(), cwd=tmp_path, check=True)
    assert (tmp_path / "modules/01-jbd2.ko").read_bytes() == b"jbd2.ko"


def test_a_program_comes_with_its_libraries_and_its_loader() -> None:
    initrd = Initrd()
    initrd.program(Path("/bin/cat"), "/bin/cat")
    names = [line.split()[-1].rpartition("/")[2] for line in listing(initrd.to_bytes())]
    assert {"cat", "libc.so.6"} <= set(names)
    assert any(name.startswith("ld-linux") for name in names)


def test_a_script_needs_no_libraries(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    initrd = Initrd()
    initrd.program(script, "/script")
    assert [line.split()[-1] for line in listing(initrd.to_bytes())] == ["script"]
