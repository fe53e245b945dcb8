"""Which mount holds a path, and which directory of its file system that is.

Pure: it takes the text of /proc/self/mountinfo (proc(5)). Called by `host.target`. May import
`errors` alone.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from kdumpd.errors import HostError

_ESCAPE = re.compile(r"\\([0-7]{3})")

#: Why a capture kernel cannot save there, by kind of file system (fuse.* counts as fuse).
REFUSED = {
    "overlay": "an overlay exists only while its layers are mounted together; name a directory of the lower disk",
    "zfs": "ZFS is not part of the kernel and cannot be mounted by a capture image; name a directory on ext4 or xfs",
    "fuse": "a FUSE file system needs its own program; name a directory on ext4 or xfs",
    "tmpfs": "that is memory and is lost with the crash; name a directory on a disk",
    "ramfs": "that is memory and is lost with the crash; name a directory on a disk",
    "devtmpfs": "that is memory and is lost with the crash; name a directory on a disk",
    "rootfs": "that is memory and is lost with the crash; name a directory on a disk",
    "squashfs": "it cannot be written; name a directory on ext4 or xfs",
    "erofs": "it cannot be written; name a directory on ext4 or xfs",
    "iso9660": "it cannot be written; name a directory on ext4 or xfs",
    "nfs": "network targets are not supported yet; name a directory on a local disk",
    "nfs4": "network targets are not supported yet; name a directory on a local disk",
    "cifs": "network targets are not supported yet; name a directory on a local disk",
    "9p": "it is shared by a hypervisor and no disk; name a directory on a local disk",
    "virtiofs": "it is shared by a hypervisor and no disk; name a directory on a local disk",
}


class Mount(NamedTuple):
    """One line of mountinfo: `number` is MAJOR:MINOR, `root` the mounted directory inside the file system."""

    number: str
    root: str
    point: str
    fstype: str
    source: str
    options: str


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def parse(text: str) -> tuple[Mount, ...]:
    """Every mount, in the order they were made; lines that make no sense are left out."""
    mounts = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        head, tail = before.split(" "), after.split(" ")
        if dash and len(head) >= 6 and len(tail) >= 3:
            mounts.append(Mount(head[2], _plain(head[3]), _plain(head[4]), tail[0], _plain(tail[1]), tail[2]))
    return tuple(mounts)


def holding(mounts: tuple[Mount, ...], path: str) -> Mount:
    """The mount that a path without symbolic links lies on: the deepest, and of those on one place the last."""
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    if best is None:
        raise HostError(f"{path}: no mount holds it; is /proc mounted?")
    return best


def directory_inside(mount: Mount, path: str) -> str:
    """The path as the file system itself calls it, bind mounts and btrfs subvolumes resolved."""
    return posixpath.normpath(posixpath.join(mount.root, posixpath.relpath(path, mount.point)))


def refusal(fstype: str) -> str | None:
    """Why no dump can be saved on this kind of file system; None when one can."""
    kind = fstype.partition(".")[0]
    return REFUSED.get("fuse" if kind == "fuseblk" else kind)
