"""A target of the policy on this machine: from a directory to the device, file system and drivers below it.

Called by `plan.gather`. May import the rest of `host` and `errors`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kdumpd.errors import HostError
from kdumpd.host import blockdevice, mounts
from kdumpd.host.blockdevice import BlockDevice

_MOST_LINKS = 40  # as the kernel follows (Linux include/linux/namei.h, MAXSYMLINKS)


@dataclass(frozen=True)
class TargetFacts:
    """Where a path of the policy really lies; `uuid` is None when udev knows none, `node` is the device's file."""

    path: str
    node: str
    uuid: str | None
    fstype: str
    directory: str
    options: str
    device: BlockDevice


@dataclass(frozen=True)
class Places:
    """Where the kernel shows what it knows; other folders in tests."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    run: Path = Path("/run")


def uuid_of(places: Places, number: str, name: str) -> str | None:
    """The file system's UUID that udev has read from a device, None without udev."""
    try:
        database = (places.run / "udev" / "data" / f"b{number}").read_text(errors="replace")
    except OSError:
        database = ""
    for line in database.splitlines():
        if line.startswith("E:ID_FS_UUID="):
            return line.partition("=")[2]
    links = places.dev / "disk" / "by-uuid"
    for link in sorted(links.iterdir()) if links.is_dir() else []:
        if link.resolve().name == name:
            return link.name
    return None


def _btrfs_number(places: Places, mount: mounts.Mount) -> str:
    """btrfs shows a device number of its own: that of the device it was mounted from is asked for."""
    name = Path(mount.source).resolve().name
    number = places.sys / "class" / "block" / name / "dev"
    pools = places.sys / "fs" / "btrfs"
    for pool in pools.iterdir() if pools.is_dir() else []:
        devices = {entry.name for entry in (pool / "devices").iterdir()} if (pool / "devices").is_dir() else set()
        if name in devices and len(devices) > 1:
            raise HostError(
                f"{mount.point}: is a btrfs of {len(devices)} devices, which the capture image cannot assemble; "
                "name a directory on one disk"
            )
    try:
        return number.read_text().strip()
    except OSError as error:
        raise HostError(f"{mount.point}: {mount.source} is no block device here; name a directory on a disk") from error


def resolve(path: str, root: Path) -> str:
    """A path of the system at `root` without symbolic links, as this machine calls it; absolute links count from there.

    What does not exist stays as it is. HostError for links that lead round in a circle.
    """
    left = [part for part in reversed(path.split("/")) if part]
    top = Path(os.path.realpath(root))
    here, links = top, 0
    while left:
        part = left.pop()
        if part == "..":
            here = here.parent if here != top else top
        elif (here / part).is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise HostError(f"target {path}: too many symbolic links; name a directory without them")
            target = (here / part).readlink()
            here = top if target.is_absolute() else here
            left += [name for name in reversed(target.parts) if name not in ("/", ".")]
        elif part != ".":
            here = here / part
    return str(here)


def locate(path: str, places: Places, root: Path = Path("/")) -> TargetFacts:
    """The facts about a target's directory, which need not exist yet.

    Raises HostError for one that cannot be a target, with the reason.
    """
    real = resolve(path, root)
    mountinfo = (places.proc / "self" / "mountinfo").read_text(errors="replace")
    mount = mounts.holding(mounts.parse(mountinfo), real)
    why = mounts.refusal(mount.fstype)
    if why is not None:
        raise HostError(f"target {path}: lies on {mount.fstype} ({mount.point}): {why}")
    is_btrfs = mount.fstype == "btrfs"
    number = _btrfs_number(places, mount) if is_btrfs else mount.number
    device = blockdevice.read(places.sys, number, f"target {path}")
    return TargetFacts(
        path=path,
        node=f"/dev/{device.name.replace('!', '/')}",
        uuid=uuid_of(places, number, device.name),
        fstype=mount.fstype,
        directory=mounts.directory_inside(mount, real),
        # mountinfo's root counts from the top of the file system, whatever subvolume is the default one.
        options="subvolid=5" if is_btrfs else "",
        device=device,
    )
