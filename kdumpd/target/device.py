"""Finds the block device that a target names: `UUID=...`, `LABEL=...` or a path under /dev.

Without udev nothing makes /dev/disk/by-uuid, and drivers announce disks a while after they are loaded: every device of
/sys/class/block is looked at, again and again, until one fits. Called by `capture.attempt`, whose `Places` come from
`capture.probe`. May import `errors` and `target.superblock`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kdumpd.errors import TargetError
from kdumpd.target import superblock

#: How the kernel names RAID and device-mapper devices (drivers/md/md.c, drivers/md/dm.c).
_ASSEMBLED = ("md", "dm-")

_PAUSE = 0.02  # seconds between two looks


class Device(NamedTuple):
    """A block device that is there; `filesystem` is what its superblock says, if it was understood.

    `members` are all that are there of the devices that a file system (btrfs) lies on, this one among them.
    """

    path: str
    filesystem: superblock.FileSystem | None
    members: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every device is there that the file system lies on."""
        return self.filesystem is None or len(self.members or (self.path,)) >= self.filesystem.devices


class Places(NamedTuple):
    """Where the kernel shows block devices, and how they are looked at.

    `looking` is told the path of each device before it is read, and "" after; those in `dead` are not read; `patience`
    is how many seconds one may take to answer.
    """

    sysfs: str = "/sys/class/block"
    dev: str = "/dev"
    dead: frozenset[str] = frozenset()
    looking: Callable[[str], None] = lambda path: None
    patience: float = 10.0


def wait_for(
    name: str, deadline: float, clock: Callable[[], float], places: Places | None = None, assembled: bool = False
) -> Device:
    """The device called `name`, as soon as there is one; TargetError when there is none at `deadline` (on `clock`).

    The devices of one file system are waited for too; what is there of them at the deadline is what there is.

    One that is `assembled` is a RAID or device-mapper device, never the disk below it that shows the same superblock:
    written alone, a member of a mirror is no mirror any more.
    """
    where = places or Places()
    while True:
        found = find(name, where, assembled)
        late = clock() >= deadline
        if found is not None and (found.whole or late):
            return found
        if late:
            raise TargetError(
                f"{name}: no such block device came up in time; there are: {' '.join(_names(where)) or 'none'}; "
                "check that the image carries the disk's driver"
            )
        time.sleep(_PAUSE)


def find(name: str, places: Places, assembled: bool = False) -> Device | None:
    """The device called `name` that is there now (of those that are `assembled`, if so), or None."""
    tag, equals, value = name.partition("=")
    if not equals:
        if name in places.dead:
            raise TargetError(f"{name}: does not answer")
        return Device(name, _superblock(name, places)) if _is_block_device(name) else None
    candidates = [device for device in _devices(places) if _matches(tag, value, device.filesystem)]
    if assembled:
        candidates = [device for device in candidates if os.path.basename(device.path).startswith(_ASSEMBLED)]
    # A disk that is part of a RAID or multipath device shows the same superblock: take what nothing else holds.
    candidates.sort(key=lambda device: _held(device.path, places))
    if not candidates:
        return None
    return candidates[0]._replace(members=_members(candidates, places))


def _members(candidates: list[Device], places: Places) -> tuple[str, ...]:
    """The devices among these that make up one file system; those that something else holds are below others."""
    first = candidates[0].filesystem
    if first is None or first.devices < 2:
        return ()
    free = [device.path for device in candidates if not _held(device.path, places)]
    return tuple(sorted(free or [device.path for device in candidates]))


def _matches(tag: str, value: str, filesystem: superblock.FileSystem | None) -> bool:
    if filesystem is None:
        return False
    if tag == "UUID":
        return filesystem.uuid.lower() == value.lower()
    if tag == "LABEL":
        return filesystem.label == value
    raise TargetError(f"{tag}={value}: a target's device is named by UUID=, LABEL= or a path under /dev")


def _names(places: Places) -> list[str]:
    """Names of devices that have a size, sorted."""
    try:
        names = sorted(os.listdir(places.sysfs))
    except OSError:
        return []
    return [name for name in names if _sectors(f"{places.sysfs}/{name}/size") > 0]


def _devices(places: Places) -> Iterator[Device]:
    for name in _names(places):
        path = f"{places.dev}/{name.replace('!', '/')}"
        if path not in places.dead:
            yield Device(path, _superblock(path, places))


def _sectors(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 0


def _superblock(path: str, places: Places) -> superblock.FileSystem | None:
    """What is on the device; None also where it cannot be read (an empty drive, a device that went away)."""
    places.looking(path)
    try:
        return superblock.read(path)
    except OSError:
        return None
    finally:
        places.looking("")


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _held(path: str, places: Places) -> bool:
    try:
        return bool(os.listdir(f"{places.sysfs}/{os.path.basename(path)}/holders"))
    except OSError:
        return False
