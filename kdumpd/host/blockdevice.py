"""A block device in sysfs: the drivers between it and the root of the device tree, and what it is assembled from.

Called by `host.target`. May import `errors` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kdumpd.errors import HostError

#: What builds a device of others, and the dracut modules that can.
_RAID = ("RAID", ("mdraid",))
_VOLUME = ("LVM", ("dm", "lvm"))

#: The folder of a session in an iSCSI disk's path (drivers/scsi/scsi_transport_iscsi.c).
_SESSION = re.compile(r"/session\d+/")

#: Kinds of device-mapper devices, by the beginning of their UUID.
_LOGICAL_VOLUME, _ENCRYPTED = "LVM-", "CRYPT-"


@dataclass(frozen=True)
class BlockDevice:
    """A device: its kernel name, the modules or modaliases of its drivers (top layer first), and what assembles it.

    `assembled` names the layers (LVM, RAID); empty for a plain disk or partition. `dracut_modules` are
    those that put it together.
    """

    name: str
    drivers: tuple[str, ...]
    assembled: tuple[str, ...] = ()
    dracut_modules: tuple[str, ...] = ()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _driver(node: Path) -> str | None:
    """The module that drives a node, else its modalias: a driver built into this kernel may be a module of another."""
    if not (node / "driver").is_dir():
        return None
    module = node / "driver" / "module"
    if module.is_dir():
        return module.resolve().name
    return _text(node / "modalias") or None


def drivers_above(node: Path, root: Path) -> tuple[str, ...]:
    """Drivers of a node and of every parent up to the root of the device tree, each once, nearest first."""
    found: dict[str, None] = {}
    while node != root and root in node.parents:
        driver = _driver(node)
        if driver:
            found[driver] = None
        node = node.parent
    return tuple(found)


def _drivers(disk: Path, root: Path, path: str) -> tuple[str, ...]:
    """Drivers of a disk that is not made of others; HostError for one that a capture kernel cannot reach by drivers."""
    if _SESSION.search(str(disk)):
        raise HostError(
            f"{path}: lies on {disk.name}, an iSCSI disk; network targets are not supported yet: "
            "name a directory on a local disk"
        )
    # A multipath namespace hangs below its subsystem, which has a link to each controller (drivers/nvme/host/core.c).
    controllers = [link.resolve() for link in sorted(disk.parent.glob("nvme*")) if link.is_symlink()]
    nodes = (disk, *controllers)
    if any("nvme-fabrics" in node.parts for node in nodes):
        raise HostError(
            f"{path}: lies on {disk.name}, an NVMe disk on a network; network targets are not supported yet: "
            "name a directory on a local disk"
        )
    if not any((parent / "driver").is_dir() for node in nodes for parent in (node, *node.parents)):
        raise HostError(
            f"{path}: lies on {disk.name}, which no driver of a disk controller holds; "
            "name a directory on a plain local disk, LVM or RAID"
        )
    return tuple(dict.fromkeys(driver for node in nodes for driver in drivers_above(node, root)))


def _layer(disk: Path, path: str) -> tuple[str, tuple[str, ...]]:
    """What assembles a device, and the dracut modules that do it in the image; HostError where none can."""
    if (disk / "md").is_dir():
        return _RAID
    kind = _text(disk / "dm" / "uuid")
    if kind.startswith(_LOGICAL_VOLUME):
        return _VOLUME
    if kind.startswith(_ENCRYPTED):
        raise HostError(
            f"{path}: lies on the encrypted {disk.name}, whose key a capture kernel does not have; "
            "name a directory on a disk that is not encrypted"
        )
    name = _text(disk / "dm" / "name") or disk.name
    raise HostError(
        f"{path}: lies on {name} ({kind.partition('-')[0] or 'device mapper'}), which the capture image cannot put "
        "together; name a directory on a plain local disk, LVM or RAID"
    )


def read(sys: Path, number: str, path: str) -> BlockDevice:
    """The device MAJOR:MINOR; HostError, in the name of the target `path`, for one that no capture kernel can reach."""
    link = sys / "dev" / "block" / number
    if not link.exists():
        raise HostError(
            f"{path}: lies on device {number}, which is no disk of this machine; name a directory on a disk"
        )
    node = link.resolve()
    disk = node.parent if (node / "partition").exists() else node
    if (disk / "loop").is_dir():
        raise HostError(f"{path}: lies on the loop device {disk.name}, a file; name a directory on a disk")
    if disk.name.startswith(("zram", "ram")):
        raise HostError(f"{path}: lies on {disk.name}, which is memory; name a directory on a disk")
    drivers: dict[str, None] = {}
    assembled: dict[str, None] = {}
    modules: dict[str, None] = {}
    slaves = sorted((disk / "slaves").iterdir()) if (disk / "slaves").is_dir() else []
    if slaves:
        layer, needed = _layer(disk, path)
        assembled[layer] = None
        modules.update(dict.fromkeys(needed))
        for slave in slaves:
            below = read(sys, _text(slave.resolve() / "dev"), path)
            drivers.update(dict.fromkeys(below.drivers))
            assembled.update(dict.fromkeys(below.assembled))
            modules.update(dict.fromkeys(below.dracut_modules))
    else:
        drivers.update(dict.fromkeys(_drivers(disk, (sys / "devices").resolve(), path)))
    return BlockDevice(node.name, tuple(drivers), tuple(assembled), tuple(modules))
