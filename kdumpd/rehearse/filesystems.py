"""File systems that a rehearsal makes with a UUID of its choice, and the programs that make them.

Called by `rehearse.disks` and `rehearse.likeness`, and in guests by `rehearse.guestlayers`. May import `host.program`.
"""

from __future__ import annotations

from kdumpd.host import program

#: Those that programs of e2fsprogs read from outside too.
EXT = ("ext2", "ext3", "ext4")
EXT_PACKAGE = "e2fsprogs"

#: How the others are made: the program, its package, and its words before the device.
_OTHERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "xfs": ("mkfs.xfs", "xfsprogs", ("-q", "-m", "uuid={uuid}")),
    "btrfs": ("mkfs.btrfs", "btrfs-progs", ("-q", "-U", "{uuid}")),
    "vfat": ("mkfs.vfat", "dosfstools", ("-F", "32", "-i", "{serial}")),
}


def mkfs(kind: str, identity: str) -> tuple[str, str, tuple[str, ...]]:
    """What makes a file system of this kind and UUID: the program, its package, its words before the device."""
    if kind in EXT:
        return "mkfs.ext4", EXT_PACKAGE, ("-q", "-F", "-t", kind, "-m", "0", "-U", identity)
    name, package, words = _OTHERS[kind]
    return name, package, tuple(word.format(uuid=identity, serial=identity.replace("-", "")) for word in words)


def trouble_making(kind: str) -> str:
    """Why no file system of this kind can be made here, empty where one can."""
    if kind in EXT:
        return ""
    if kind not in _OTHERS:
        return f"a rehearsal makes no {kind}"
    name, package, _ = _OTHERS[kind]
    return "" if program.find(name) else f"{name} is not installed; it is in the package {package}"
