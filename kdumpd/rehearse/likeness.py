"""How the machine's disks are made like the host's: by what the armed image expects and what the host's devices are.

    targets of the image ─► UUID, file system, directories       drivers of the host's disk ─► QEMU's controller

What cannot be made alike is said in `Disk.unlike`. Called by `cli.rehearse` and the tests. May import `host`, `steps`
and of `rehearse` `controllers`, `filesystems`, `guestlayers` and `scenario`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.host import program
from kdumpd.host import target as host_target
from kdumpd.host.target import Places
from kdumpd.policy.model import Policy
from kdumpd.rehearse import controllers, filesystems, guestlayers
from kdumpd.rehearse.scenario import Disk
from kdumpd.steps.build import CaptureTarget

_UUID = "UUID="


class HostDisk(NamedTuple):
    """What a target's disk is here: the names of its drivers, nearest first, and the layers that assemble it."""

    drivers: tuple[str, ...] = ()
    assembled: tuple[str, ...] = ()


def host_disks(policy: Policy, places: Places | None = None) -> dict[str, HostDisk]:
    """The host's disks by target; one that is not understood is left out."""
    found = {}
    for target in policy.targets:
        try:
            facts = host_target.locate(target.path, places or Places())
        except HostError:
            continue
        found[target.path] = HostDisk(facts.device.driver_names, facts.device.assembled)
    return found


def like(
    targets: Iterable[CaptureTarget],
    host: Mapping[str, HostDisk],
    trouble: Callable[[str], str] = filesystems.trouble_making,
) -> tuple[Disk, ...]:
    """A disk for each device of the image's targets, as like the host's as QEMU and this machine's programs can make.

    `trouble` says why a kind of file system cannot be made here.
    """
    groups: dict[str, list[CaptureTarget]] = {}
    for target in targets:
        groups.setdefault(target.device, []).append(target)
    return tuple(_disk(group, host.get(group[0].path, HostDisk()), trouble) for group in groups.values())


def _disk(group: list[CaptureTarget], here: HostDisk, trouble: Callable[[str], str]) -> Disk:
    target = group[0]
    paths = ", ".join(one.path for one in group)
    unlike = []
    controller = controllers.emulated(here.drivers)
    if controller is None:
        known = f"drivers {', '.join(here.drivers)}" if here.drivers else "not found out"
        unlike.append(
            f"that the capture kernel drives this host's disk controller ({known}), which QEMU does not "
            f"emulate: the VM's {paths} lay on a virtio disk"
        )
    why = trouble(target.fstype)
    if why:
        unlike.append(f"that the image mounts {target.fstype} ({why}): the VM's {paths} lay on ext4")
    layers, not_made = _layers(target, here, why)
    if not_made:
        unlike.append(f"that the image puts {not_made}: the VM's {paths} lay on a plain disk")
    elif guestlayers.RAID in layers:
        unlike.append(f"that the image puts an array of several disks together: the VM's for {paths} had one")
    has_uuid = target.device.startswith(_UUID)
    if not has_uuid:
        unlike.append(f"that {target.device} is found by that name: the VM's {paths} lay on a disk found by its UUID")
    # A serial number of FAT is no UUID of another file system.
    keeps_uuid = has_uuid and not (why and target.fstype == "vfat")
    return Disk(
        directories=tuple(one.path for one in group),
        inside=tuple(one.directory for one in group),
        kind="ext4" if why else target.fstype,
        uuid=target.device.removeprefix(_UUID) if keeps_uuid else "",
        options="" if why else target.options,
        controller=controller or controllers.VIRTIO_BLK,
        own_driver=controller is not None,
        own_kind=not why,
        layers=layers,
        unlike=tuple(unlike),
    )


def _layers(target: CaptureTarget, here: HostDisk, why: str) -> tuple[tuple[str, ...], str]:
    """The layers to make below the file system; none, and what is not put together, where they cannot be made here."""
    if not target.assembled:
        return (), ""
    named = " on ".join(here.assembled) or "RAID or LVM"
    if here.assembled not in guestlayers.ORDERS:
        return (), f"{named} together"
    needed = [guestlayers.PROGRAMS[layer] for layer in here.assembled]
    why = why or ", ".join(f"{name} is not installed" for name, _ in needed if program.find(name) is None)
    if why:
        return (), f"{named} together ({why})"
    return here.assembled, ""
