"""The disks of a rehearsal's machine: their files, how QEMU attaches them, how its guests find them, what lies on them.

Called by `rehearse.session`. May import `policy.model`, `steps`, `errors` and of `rehearse` `controllers`, `disks`,
`filesystems`, `guestdisks`, `guestlayers`, `outcome` and `scenario`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from kdumpd.errors import RehearsalError
from kdumpd.policy.model import Policy
from kdumpd.rehearse import controllers, disks, filesystems, guestlayers
from kdumpd.rehearse.controllers import VIRTIO_BLK
from kdumpd.rehearse.guestdisks import GuestDisk
from kdumpd.rehearse.outcome import Saved
from kdumpd.rehearse.scenario import Disk
from kdumpd.steps.build import CaptureTarget


class VmDisk(NamedTuple):
    """A target disk of the VM: its file, its file system's UUID, and what QEMU calls its drive.

    `raw` is the UUID of what lies on it before the layers are made that it shall have; empty without layers.
    """

    disk: Disk
    path: Path
    uuid: str
    drive: str
    raw: str = ""

    @property
    def device(self) -> str:
        """The disk as guests find it."""
        return f"UUID={self.uuid}"


def make(folder: Path, wanted: Iterable[Disk]) -> tuple[VmDisk, ...]:
    """The disks are made; drives that may be written are called disk0, disk1, ..., the others fixed0, ..."""
    made: list[VmDisk] = []
    for number, disk in enumerate(wanted):
        path = folder / f"target{number}.disk"
        raw = ""
        if disk.layers:
            raw, uuid = disks.make(path, disk.size), disk.uuid or str(uuid4())
        elif disk.kind == "ext4":
            uuid = disks.make(path, disk.size, disk.places, identity=disk.uuid)
        else:
            uuid = disks.make_kind(path, disk.size, disk.kind, disk.uuid)
        kind = "fixed" if disk.read_only else "disk"
        same = sum(other.disk.read_only == disk.read_only and other.disk.attached for other in made)
        made.append(VmDisk(disk, path, uuid, f"{kind}{same}" if disk.attached else "", raw))
    return tuple(made)


def attached(vm_disks: Iterable[VmDisk]) -> tuple[VmDisk, ...]:
    """Those that the machine has, the ones that may be written first."""
    return tuple(sorted((one for one in vm_disks if one.disk.attached), key=lambda one: one.disk.read_only))


def targets(policy: Policy, vm_disks: Iterable[VmDisk]) -> tuple[CaptureTarget, ...]:
    """The policy's targets, in its order, as they lie on the VM's disks."""
    homes = {
        path: (vm_disk, inside)
        for vm_disk in vm_disks
        for path, inside in zip(vm_disk.disk.directories, vm_disk.disk.places, strict=True)
    }
    found = []
    for target in policy.targets:
        if target.path not in homes:
            raise RehearsalError(f"{target.path}: no disk of the scenario holds this target")
        home, inside = homes[target.path]
        disk = home.disk
        found.append(
            CaptureTarget(
                home.device, disk.kind, inside, target.path, options=disk.options, assembled=bool(disk.layers)
            )
        )
    return tuple(found)


def lent_drivers(vm_disks: Iterable[VmDisk]) -> tuple[str, ...]:
    """Modules of the controllers whose drivers are not the image's affair, in the order to load them."""
    return _modules(one for one in vm_disks if not one.disk.own_driver)


def all_drivers(vm_disks: Iterable[VmDisk]) -> tuple[str, ...]:
    """Modules of every controller, of the scratch disk's, and of the layers."""
    vm_disks = tuple(vm_disks)
    layers = (name for one in vm_disks for layer in one.disk.layers for name in guestlayers.MODULES[layer])
    return tuple(dict.fromkeys((*VIRTIO_BLK.modules, *_modules(vm_disks), *layers)))


def programs(vm_disks: Iterable[VmDisk]) -> tuple[tuple[str, str], ...]:
    """Programs, with their packages, that a guest needs for the layers of these disks."""
    layered = [one.disk for one in vm_disks if one.disk.layers]
    needed = [guestlayers.PROGRAMS[layer] for disk in layered for layer in disk.layers]
    return tuple(dict.fromkeys((*needed, *(filesystems.mkfs(disk.kind, "")[:2] for disk in layered))))


def _modules(vm_disks: Iterable[VmDisk]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in vm_disks for name in one.disk.controller.modules))


def lent_kinds(vm_disks: Iterable[VmDisk]) -> tuple[str, ...]:
    """File systems whose modules are not the image's affair."""
    return tuple(dict.fromkeys(one.disk.kind for one in vm_disks if not one.disk.own_kind))


def arguments(vm_disks: tuple[VmDisk, ...], scratch: Path) -> list[str]:
    """QEMU's words: disks that may be written, the scratch disk, then the others."""
    order = attached(vm_disks)
    words = {
        read_only: [
            word
            for one in order
            if one.disk.read_only is read_only
            for word in controllers.arguments(one.disk.controller, one.drive, str(one.path), read_only)
        ]
        for read_only in (False, True)
    }
    return [*words[False], *controllers.arguments(VIRTIO_BLK, "scratch", str(scratch)), *words[True]]


def in_guest(vm_disks: tuple[VmDisk, ...], read_only: bool = False) -> tuple[GuestDisk, ...]:
    """The disks as a guest mounts them."""
    return tuple(
        GuestDisk(
            one.device,
            f"/targets/{number}",
            one.disk.read_only or read_only,
            one.disk.free,
            one.disk.kind,
            one.disk.options,
            one.disk.places,
            one.disk.layers,
            f"UUID={one.raw}" if one.raw else "",
        )
        for number, one in enumerate(attached(vm_disks))
    )


def readable(vm_disk: VmDisk) -> bool:
    """Whether `take_out` can read the disk from outside."""
    return disks.readable(vm_disk.disk.kind) and not vm_disk.disk.layers


def take_out(vm_disk: VmDisk, into: Path) -> tuple[bool, tuple[Saved, ...]]:
    """Whether a disk that is read from outside was unmounted, and every crash's directory on it, now in `into`."""
    clean = disks.is_clean(vm_disk.path)
    places = zip(vm_disk.disk.directories, vm_disk.disk.places, strict=True)
    return clean, tuple(
        saved
        for number, (path, inside) in enumerate(places)
        for saved in crashes(path, disks.take_out(vm_disk.path, inside, into / str(number)))
    )


def crashes(target: str, paths: Iterable[Path]) -> tuple[Saved, ...]:
    """Those of the paths that are a crash's directory."""
    return tuple(_saved(target, path) for path in sorted(paths) if path.is_dir())


def _saved(target: str, directory: Path) -> Saved:
    files = tuple(sorted(path.name for path in directory.iterdir()))
    record = directory / "kdumpd.json"
    try:
        document = json.loads(record.read_text()) if record.is_file() else {}
    except ValueError:
        document = {}
    return Saved(target, directory, files, document if isinstance(document, dict) else {})
