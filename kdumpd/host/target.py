"""A target of the policy on this machine: from a directory to the device, file system and drivers below it.

Called by `prove`, in processes apart. May import the rest of `host` and `errors`.
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
    """Where a path of the policy really lies; `uuid` is None when udev knows none, `node` is the device's file.

    `warnings` are what may make a dump go elsewhere than the path's owner thinks.
    """

    path: str
    node: str
    uuid: str | None
    fstype: str
    directory: str
    options: str
    device: BlockDevice
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where the kernel shows what it knows; other folders in tests."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    run: Path = Path("/run")
    etc: Path = Path("/etc")


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


def _btrfs(places: Places, mount: mounts.Mount, path: str) -> tuple[str, BlockDevice]:
    """The number of the device it was mounted from (btrfs shows one of its own), and what all of its devices need."""
    name = Path(mount.source).resolve().name
    names = {name}
    pools = places.sys / "fs" / "btrfs"
    for pool in pools.iterdir() if pools.is_dir() else []:
        members = {entry.name for entry in (pool / "devices").iterdir()} if (pool / "devices").is_dir() else set()
        if name in members:
            names |= members
    numbers = []
    for one in (name, *sorted(names - {name})):
        try:
            numbers.append((places.sys / "class" / "block" / one / "dev").read_text().strip())
        except OSError as error:
            raise HostError(f"{path}: {one} is no block device here; name a directory on a disk") from error
    devices = [blockdevice.read(places.sys, number, path) for number in numbers]
    return numbers[0], blockdevice.together(devices[0].name, devices)


def resolve(path: str, root: Path, mounted: tuple[mounts.Mount, ...] = ()) -> str:
    """A path of the system at `root` without symbolic links, as this machine calls it; absolute links count from there.

    What does not exist stays as it is, and so does what lies on a file system that may never answer: with `mounted`
    known, nothing is asked of those. HostError for links that lead round in a circle.
    """
    left = [part for part in reversed(path.split("/")) if part]
    top = Path(os.path.realpath(root))
    points = {mount.point for mount in mounted}
    here, links = top, 0
    while left:
        part = left.pop()
        if part == "..":
            here = here.parent if here != top else top
        elif _may_be_asked(here, part, mounted, points) and (here / part).is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise HostError(f"target {path}: too many symbolic links; name a directory without them")
            target = (here / part).readlink()
            here = top if target.is_absolute() else here
            left += [name for name in reversed(target.parts) if name not in ("/", ".")]
        elif part != ".":
            here = here / part
    return str(here)


def _may_be_asked(here: Path, part: str, mounted: tuple[mounts.Mount, ...], points: set[str]) -> bool:
    """Whether a name can be looked up without waiting for a program or a server. A mount point is no symbolic link."""
    if not mounted:
        return True
    return str(here / part) not in points and mounts.answers_itself(mounts.holding(mounted, str(here)).fstype)


def _warnings(path: str, real: str, mount: mounts.Mount, fstab: Path, device: BlockDevice) -> tuple[str, ...]:
    found = []
    try:
        point = mounts.missing(fstab.read_text(errors="replace"), mount, real)
    except OSError:
        point = None
    if point is not None:
        found.append(
            f"target {path}: {fstab} names a file system for {point} that is not mounted; a dump would go to "
            f"{mount.source}, the disk of {mount.point}: mount it, then run kdumpd apply"
        )
    if device.removable:
        found.append(
            f"target {path}: lies on {device.name}, which can be taken out; a crash then finds no target there"
        )
    return tuple(found)


def locate(path: str, places: Places, root: Path = Path("/")) -> TargetFacts:
    """The facts about a target's directory, which need not exist yet.

    Raises HostError for one that cannot be a target, with the reason.
    """
    mounted = mounts.parse((places.proc / "self" / "mountinfo").read_text(errors="replace"))
    real = resolve(path, root, mounted)
    mount = mounts.holding(mounted, real)
    why = mounts.refusal(mount.fstype)
    if why is not None:
        raise HostError(f"target {path}: lies on {mount.fstype} ({mount.point}): {why}")
    is_btrfs = mount.fstype == "btrfs"
    if is_btrfs:
        number, device = _btrfs(places, mount, f"target {path}")
    else:
        number, device = mount.number, blockdevice.read(places.sys, mount.number, f"target {path}")
    return TargetFacts(
        path=path,
        node=f"/dev/{device.name.replace('!', '/')}",
        uuid=uuid_of(places, number, device.name),
        fstype=mount.fstype,
        directory=mounts.directory_inside(mount, real),
        # mountinfo's root counts from the top of the file system, whatever subvolume is the default one.
        options="subvolid=5" if is_btrfs else "",
        device=device,
        # Another root's fstab tells of mounts that are elsewhere now.
        warnings=_warnings(path, real, mount, places.etc / "fstab", device) if root == Path("/") else (),
    )
