"""The first look: what tells in a few milliseconds that something is not as it was.

A look proves nothing: two that are alike say that there is no need to ask `kdumpd status`. Called by `service.daemon`
at every wake-up. Targets alone are looked at by processes apart, for two seconds at most: their disks may be gone. May
import `service.paths`, `service.space` and the standard library.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from kdumpd.service.paths import Paths
from kdumpd.service.space import Spaces

#: A file as far as stat tells: inode, bytes, times of content and of attributes in ns; None where there is none.
Mark = tuple[int, int, int, int] | None

#: Devices that no dump is kept on; containers and packages make and drop them all day.
_NO_DISKS = ("loop", "ram", "zram", "sr", "fd")


class Room(NamedTuple):
    """Where a target's directory is, or will be: its device's number and free bytes, as `service.space`
    says them: 0 where that cannot be seen, another number of the device where the disk does not answer."""

    path: str
    device: int
    free: int


class Look(NamedTuple):
    """What was seen. `reservation` is in bytes, None where the kernel cannot load a crash kernel at all; `memory` is
    the System RAM of /proc/iomem, `mounts` every mounted disk with its options, `room` the device and the free bytes
    of each target that was proved."""

    policy: Mark
    image: tuple[Mark, ...]
    record: Mark
    kernel: tuple[Mark, ...]
    modules: tuple[Mark, ...]
    loaded: bool
    reservation: int | None
    cpus: str
    memory: tuple[str, ...]
    disks: tuple[str, ...]
    mounts: tuple[str, ...]
    room: tuple[Room, ...]
    hostname: str
    disarmed: bool


def _mark(path: str) -> Mark:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def crash_kernel(paths: Paths) -> tuple[bool, int | None]:
    """(is one loaded, the reservation's bytes); Linux 6.19 added /sys/kernel/kexec/ beside /sys/kernel/kexec_*."""
    for prefix in ("kexec_", "kexec/"):
        start = os.path.join(paths.sys, "kernel", prefix)
        loaded, size = _text(f"{start}crash_loaded").strip(), _text(f"{start}crash_size").strip()
        if loaded:
            return loaded == "1", int(size) if size.isdigit() else 0
    return False, None


def system_ram(iomem: str) -> tuple[str, ...]:
    """The ranges of memory that a dump is made of, as /proc/iomem writes them; what drivers add counts as well."""
    return tuple(line for line in iomem.splitlines() if " : System RAM" in line)


def disk_mounts(mountinfo: str) -> tuple[str, ...]:
    """Each mounted disk: device number, mount point, options, type and options of the file system."""
    found = []
    for line in mountinfo.splitlines():
        mount, _, filesystem = line.partition(" - ")
        source = filesystem.partition(" ")[2]
        if source.startswith("/dev/") and not source.startswith("/dev/loop"):
            # Without the numbers of the mounts, which say nothing about the disk.
            found.append(f"{mount.split(' ', 2)[-1]} {filesystem}")
    return tuple(sorted(found))


def _disks(paths: Paths) -> tuple[str, ...]:
    try:
        names = os.listdir(os.path.join(paths.sys, "class", "block"))
    except OSError:
        return ()
    return tuple(sorted(name for name in names if not name.startswith(_NO_DISKS)))


def _rooms(paths: Paths, spaces: Spaces) -> tuple[Room, ...]:
    try:
        targets = [
            str(target["path"]) for target in json.loads(_text(os.path.join(paths.state, "targets.json")))["targets"]
        ]
    except (ValueError, TypeError, KeyError):
        return ()
    found = spaces.ask(targets)
    return tuple(Room(target, *found[target]) for target in targets)


def take(paths: Paths, spaces: Spaces) -> Look:
    """The machine as it is at this moment, as far as it is cheap to tell; `spaces` knows which targets are silent."""
    loaded, reservation = crash_kernel(paths)
    beside = ("capture.img", "capture.manifest.json", "capture.policy.json")
    own = os.path.join(paths.modules, paths.release)
    return Look(
        policy=_mark(paths.policy),
        image=tuple(_mark(os.path.join(paths.images, name)) for name in beside),
        record=_mark(os.path.join(paths.state, "loaded.json")),
        kernel=(_mark(os.path.join(paths.boot, f"vmlinuz-{paths.release}")), _mark(os.path.join(own, "vmlinuz"))),
        modules=tuple(_mark(os.path.join(own, name)) for name in ("modules.dep", "modules.dep.bin")),
        loaded=loaded,
        reservation=reservation,
        cpus=_text(os.path.join(paths.sys, "devices/system/cpu/present")).strip(),
        memory=system_ram(_text(os.path.join(paths.proc, "iomem"))),
        disks=_disks(paths),
        mounts=disk_mounts(_text(os.path.join(paths.proc, "self/mountinfo"))),
        room=_rooms(paths, spaces),
        hostname=_text(os.path.join(paths.proc, "sys/kernel/hostname")).strip(),
        disarmed=os.path.exists(paths.disarmed),
    )


def changed(before: Look, now: Look) -> tuple[str, ...]:
    """The fields in which two looks differ; free bytes by more than an eighth."""
    if _alike(before.room, now.room):
        now = now._replace(room=before.room)
    return tuple(name for name, old, new in zip(Look._fields, before, now, strict=True) if old != new)


def _alike(before: tuple[Room, ...], now: tuple[Room, ...]) -> bool:
    return len(before) == len(now) and all(
        old[:2] == new[:2] and abs(new.free - old.free) * 8 <= max(new.free, old.free)
        for old, new in zip(before, now, strict=True)
    )
