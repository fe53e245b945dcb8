"""The first look: what it sees of a root of files, and what makes two of them differ."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd.service.look import Room, changed, disk_mounts, system_ram, take
from kdumpd.service.paths import Paths
from kdumpd.service.space import SILENT, Space, Spaces, measure

MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /proc rw shared:12 - proc proc rw
24 22 7:0 / /snap/core ro shared:13 - squashfs /dev/loop0 ro
25 22 0:52 / /var/lib/docker/overlay rw shared:14 - overlay overlay rw
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in {
        "etc/kdumpd.yaml": "version: 1\n",
        "var/lib/kdumpd/6.1/capture.img": "image",
        "var/lib/kdumpd/loaded.json": "{}",
        "var/lib/kdumpd/targets.json": f'{{"targets": [{{"path": "{tmp_path}/var/crash"}}]}}',
        "boot/vmlinuz-6.1": "kernel",
        "lib/modules/6.1/modules.dep": "",
        "proc/iomem": "00100000-7fffffff : System RAM\n",
        "proc/self/mountinfo": MOUNTS,
        "proc/sys/kernel/hostname": "host\n",
        "sys/kernel/kexec_crash_loaded": "1\n",
        "sys/kernel/kexec_crash_size": "201326592\n",
        "sys/devices/system/cpu/present": "0-1\n",
        "sys/class/block/vda": "",
        "sys/class/block/loop0": "",
        "run/kdumpd/x": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_what_is_seen(root: Path) -> None:
    look = take(Paths(str(root), "6.1"), Spaces())
    assert (look.loaded, look.reservation, look.cpus, look.hostname) == (True, 192 << 20, "0-1", "host")
    assert look.memory == ("00100000-7fffffff : System RAM",)
    assert look.disks == ("vda",)
    assert look.mounts == ("254:1 / / rw,relatime shared:1 ext4 /dev/vda1 rw,errors=remount-ro",)
    assert [(room.path, room.device) for room in look.room] == [(f"{root}/var/crash", root.stat().st_dev)]
    assert look.room[0].free > 0
    assert not look.disarmed
    assert None not in (look.policy, look.image[0], look.record, look.kernel[0], look.modules[0])


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an edited policy": ("policy", lambda root: (root / "etc/kdumpd.yaml").write_text("version: 1 \n")),
    "a policy that is gone": ("policy", lambda root: (root / "etc/kdumpd.yaml").unlink()),
    "an image that is gone": ("image", lambda root: (root / "var/lib/kdumpd/6.1/capture.img").unlink()),
    "a bit that flipped": ("image", lambda root: (root / "var/lib/kdumpd/6.1/capture.img").write_text("imagf")),
    "another load": ("record", lambda root: (root / "var/lib/kdumpd/loaded.json").write_text("{} ")),
    "another kernel": ("kernel", lambda root: (root / "boot/vmlinuz-6.1").write_text("other")),
    "depmod": ("modules", lambda root: (root / "lib/modules/6.1/modules.dep").write_text("x")),
    "kexec -u": ("loaded", lambda root: (root / "sys/kernel/kexec_crash_loaded").write_text("0\n")),
    "a smaller reservation": ("reservation", lambda root: (root / "sys/kernel/kexec_crash_size").write_text("0\n")),
    "a processor": ("cpus", lambda root: (root / "sys/devices/system/cpu/present").write_text("0-2\n")),
    "memory": ("memory", lambda root: (root / "proc/iomem").write_text("00100000-8fffffff : System RAM\n")),
    "a disk": ("disks", lambda root: (root / "sys/class/block/vdb").write_text("")),
    "an error's read-only": (
        "mounts",
        lambda root: (root / "proc/self/mountinfo").write_text(MOUNTS.replace("rw,errors", "ro,errors")),
    ),
    "another name": ("hostname", lambda root: (root / "proc/sys/kernel/hostname").write_text("other\n")),
    "disarm": ("disarmed", lambda root: (root / "run/kdumpd/disarmed").write_text("")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_seen_and_nothing_else(root: Path, name: str) -> None:
    field, change = CHANGES[name]
    paths = Paths(str(root), "6.1")
    before = take(paths, Spaces())
    assert changed(before, take(paths, Spaces())) == ()
    change(root)
    assert changed(before, take(paths, Spaces())) == (field,)


def test_the_files_of_newer_kernels_are_read(root: Path) -> None:
    for name in ("loaded", "size"):
        (root / f"sys/kernel/kexec_crash_{name}").unlink()
    look = take(Paths(str(root), "6.1"), Spaces())
    assert (look.loaded, look.reservation) == (False, None)
    (root / "sys/kernel/kexec").mkdir()
    (root / "sys/kernel/kexec/crash_loaded").write_text("1\n")
    (root / "sys/kernel/kexec/crash_size").write_text("4096\n")
    look = take(Paths(str(root), "6.1"), Spaces())
    assert (look.loaded, look.reservation) == (True, 4096)


def test_a_machine_without_anything_is_seen_too(tmp_path: Path) -> None:
    look = take(Paths(str(tmp_path), "6.1"), Spaces())
    assert (look.loaded, look.reservation, look.policy, look.room) == (False, None, None, ())


def test_mounts_of_containers_and_packages_are_no_disks() -> None:
    assert len(disk_mounts(MOUNTS)) == 1


def test_memory_that_a_driver_added_counts() -> None:
    assert len(system_ram("0-1 : System RAM\n2-3 : Reserved\n4-5 : System RAM (virtio_mem)\n")) == 2


def test_a_target_whose_disk_falls_silent_changes_the_look_and_one_that_answers_again_too(root: Path) -> None:
    """Simulated: opening a pipe that nobody writes to stands for the disk."""
    paths, pipe = Paths(str(root), "6.1"), root / "pipe"
    before = take(paths, Spaces())
    os.mkfifo(pipe)

    def hang(path: str) -> Space:
        if pipe.exists():
            pipe.read_bytes()
        return measure(path)

    spaces = Spaces(hang, deadline=0.2)
    silent = take(paths, spaces)
    assert silent.room == (Room(f"{root}/var/crash", *SILENT),)
    assert changed(before, silent) == ("room",)
    assert changed(silent, take(paths, spaces)) == ()
    with pipe.open("wb"):
        pipe.unlink()
    until = time.monotonic() + 10
    while take(paths, spaces).room[0][1:] == SILENT:
        assert time.monotonic() < until
