"""Which mount holds a path, and which directory of its file system that is; which mounts fstab names that are missing.

Pure: it takes the texts of /proc/self/mountinfo (proc(5)) and /etc/fstab (fstab(5)). Called by `host.target`. May
import `errors` alone.
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
    "smb3": "network targets are not supported yet; name a directory on a local disk",
    "ceph": "network targets are not supported yet; name a directory on a local disk",
    "gfs2": "it needs its cluster; name a directory on ext4 or xfs",
    "ocfs2": "it needs its cluster; name a directory on ext4 or xfs",
    "autofs": "it is mounted only while it is used, and is not now; mount it, or name a directory of a mounted disk",
}

#: File systems that others answer for: who asks for a name there may wait for ever.
_ANSWERED_BY_OTHERS = frozenset(("fuse", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "autofs"))


class Mount(NamedTuple):
    """One line of mountinfo: `number` is MAJOR:MINOR, `root` the mounted directory inside the file system.

    `parent` is the identity of the mount that its mount point lies on.
    """

    identity: str
    parent: str
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
            names = (_plain(head[3]), _plain(head[4]), tail[0], _plain(tail[1]), tail[2])
            mounts.append(Mount(head[0], head[1], head[2], *names))
    return tuple(mounts)


def _on_top(mounts: tuple[Mount, ...], below: Mount, point: str) -> Mount:
    """What is seen at `point` of the mount `below`: what was mounted there, and on that again; else itself."""
    seen = {below.identity}
    while True:
        above = [
            one for one in mounts if one.parent == below.identity and one.point == point and one.identity not in seen
        ]
        if not above:
            return below
        below = above[-1]
        seen.add(below.identity)


def _deepest(mounts: tuple[Mount, ...], path: str) -> Mount | None:
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def holding(mounts: tuple[Mount, ...], path: str) -> Mount:
    """The mount that a path without symbolic links lies on: from the root down, what hides another counts.

    In a root that is no mount point itself (chroot) it is the deepest one.
    """
    known = {mount.identity for mount in mounts}
    roots = [one for one in mounts if one.point == "/" and (one.parent not in known or one.parent == one.identity)]
    if not roots:
        best = _deepest(mounts, path)
        if best is None:
            raise HostError(f"{path}: no mount holds it; is /proc mounted?")
        return best
    here = _on_top(mounts, roots[-1], "/")
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        here = _on_top(mounts, here, "/" + "/".join(parts[:count]))
    return here


def answers_itself(fstype: str) -> bool:
    """Whether the kernel alone answers for this kind of file system: no program or server that may be gone."""
    return _kind(fstype) not in _ANSWERED_BY_OTHERS


def directory_inside(mount: Mount, path: str) -> str:
    """The path as the file system itself calls it, bind mounts and btrfs subvolumes resolved."""
    return posixpath.normpath(posixpath.join(mount.root, posixpath.relpath(path, mount.point)))


def refusal(fstype: str) -> str | None:
    """Why no dump can be saved on this kind of file system; None when one can."""
    return REFUSED.get(_kind(fstype))


def _kind(fstype: str) -> str:
    kind = fstype.partition(".")[0]
    return "fuse" if kind == "fuseblk" else kind


def missing(fstab: str, here: Mount, path: str) -> str | None:
    """The mount point that fstab names on the way to `path` and that is not mounted; `here` is what holds the path.

    A dump for that disk would go to the one below its mount point.
    """
    points = [
        _plain(fields[1]) for line in fstab.splitlines() if len(fields := line.split()) >= 3 and "#" not in fields[0]
    ]
    deeper = [
        point.rstrip("/")
        for point in points
        if (path == point.rstrip("/") or path.startswith(point.rstrip("/") + "/"))
        and point.startswith("/")
        and len(point.rstrip("/")) > len(here.point.rstrip("/"))
    ]
    return max(deeper, key=len, default=None)
