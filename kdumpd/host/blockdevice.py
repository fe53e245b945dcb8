"""A block device in sysfs: the drivers between it and the root of the device tree, and what it is assembled from.

Called by `host.target`. May import `errors` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError

#: What builds a device of others, and the dracut modules that can.
_RAID = ("RAID", ("mdraid",))
_VOLUME = ("LVM", ("dm", "lvm"))

#: The folder of a session in an iSCSI disk's path (drivers/scsi/scsi_transport_iscsi.c).
_SESSION = re.compile(r"/session\d+/")

#: Drivers of disks on a USB plug.
_PLUGGED = ("usb-storage", "uas")

#: Kinds of device-mapper devices, by the beginning of their UUID.
_LOGICAL_VOLUME, _ENCRYPTED = "LVM-", "CRYPT-"


@dataclass(frozen=True)
class BlockDevice:
    """A device: its kernel name, the modules or modaliases of its drivers (top layer first), and what assembles it.

    `assembled` names the layers (LVM, RAID); empty for a plain disk or partition. `dracut_modules` are
    those that put it together. `driver_names` are what the drivers are called in sysfs, built in or not. `removable`: a
    medium or disk that can be taken out.
    """

    name: str
    drivers: tuple[str, ...]
    assembled: tuple[str, ...] = ()
    dracut_modules: tuple[str, ...] = ()
    driver_names: tuple[str, ...] = ()
    removable: bool = False


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


class Driver(NamedTuple):
    """A driver of a device or of a bus above it: its name in sysfs, and its module or, built in, the modalias.

    A driver that is built into this kernel may be a module of another.
    """

    name: str
    module: str


def _driver(node: Path) -> Driver | None:
    if not (node / "driver").is_dir():
        return None
    module = node / "driver" / "module"
    name = module.resolve().name if module.is_dir() else _text(node / "modalias")
    return Driver((node / "driver").resolve().name, name)


def drivers_above(node: Path, root: Path) -> tuple[Driver, ...]:
    """Drivers of a node and of every parent up to the root of the device tree, each once, nearest first."""
    found: dict[Driver, None] = {}
    while node != root and root in node.parents:
        driver = _driver(node)
        if driver:
            found[driver] = None
        node = node.parent
    return tuple(found)


def _drivers(disk: Path, root: Path, path: str) -> tuple[Driver, ...]:
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
    slaves = sorted((disk / "slaves").iterdir()) if (disk / "slaves").is_dir() else []
    if slaves:
        layer, needed = _layer(disk, path)
        below = [read(sys, _text(slave.resolve() / "dev"), path) for slave in slaves]
        return together(node.name, below, (layer,), needed)
    drivers = _drivers(disk, (sys / "devices").resolve(), path)
    names = tuple(dict.fromkeys(driver.name for driver in drivers))
    return BlockDevice(
        node.name,
        tuple(dict.fromkeys(driver.module for driver in drivers if driver.module)),
        driver_names=names,
        removable=_can_be_taken_out(names, _text(disk / "removable") == "1"),
    )


def _can_be_taken_out(names: tuple[str, ...], marked: bool) -> bool:
    """Whether a disk or its medium goes with a hand's grip. SCSI marks every disk in a hot-plug bay (libata's RMB)."""
    return any(name in _PLUGGED for name in names) or (marked and "sd" not in names)


def together(
    name: str, below: Sequence[BlockDevice], layers: tuple[str, ...] = (), dracut_modules: tuple[str, ...] = ()
) -> BlockDevice:
    """A device that needs all of those below it, and what puts them together."""

    def merged(*groups: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one for group in groups for one in group))

    return BlockDevice(
        name,
        merged(*(device.drivers for device in below)),
        merged(layers, *(device.assembled for device in below)),
        merged(dracut_modules, *(device.dracut_modules for device in below)),
        merged(*(device.driver_names for device in below)),
        any(device.removable for device in below),
    )
