"""Disk controllers that QEMU emulates: which driver of a host means which, and how a machine gets a disk on one.

Pure. Called by `rehearse.likeness` and `rehearse.vmdisks`. May import nothing of kdumpd.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Controller(NamedTuple):
    """A controller: the kernel driver's name, what a person calls it, its modules in the order to load them, and QEMU's

    devices for one disk. In those `{bus}` names the controller and `{drive}` the drive that its disk shows. `above`
    is a driver that must stand above it here, as it does in the VM.
    """

    driver: str
    title: str
    modules: tuple[str, ...]
    devices: tuple[str, ...]
    above: str = ""


_VIRTIO_PCI = "virtio-pci"
_SCSI_DISK = "scsi-hd,bus={bus}.0,drive={drive}"

VIRTIO_BLK = Controller(
    "virtio_blk",
    "virtio block device",
    ("virtio_pci", "virtio_blk"),
    ("virtio-blk-pci,drive={drive}",),
    above=_VIRTIO_PCI,
)
#: By the name that a driver has in sysfs (/sys/bus/*/drivers), which is not always its module's.
CONTROLLERS = {
    controller.driver: controller
    for controller in (
        VIRTIO_BLK,
        Controller(
            "virtio_scsi",
            "virtio SCSI controller",
            ("virtio_pci", "virtio_scsi", "sd_mod"),
            ("virtio-scsi-pci,id={bus}", _SCSI_DISK),
            above=_VIRTIO_PCI,
        ),
        Controller("nvme", "NVMe controller", ("nvme",), ("nvme,drive={drive},serial={drive}",)),
        Controller(
            "ahci", "AHCI controller", ("ahci", "sd_mod"), ("ich9-ahci,id={bus}", "ide-hd,bus={bus}.0,drive={drive}")
        ),
        Controller(
            "megaraid_sas", "MegaRAID SAS controller", ("megaraid_sas", "sd_mod"), ("megasas-gen2,id={bus}", _SCSI_DISK)
        ),
        Controller("mptsas", "Fusion MPT SAS controller", ("mptsas", "sd_mod"), ("mptsas1068,id={bus}", _SCSI_DISK)),
        Controller("vmw_pvscsi", "VMware PVSCSI controller", ("vmw_pvscsi", "sd_mod"), ("pvscsi,id={bus}", _SCSI_DISK)),
    )
}


def emulated(names: Iterable[str]) -> Controller | None:
    """The controller that QEMU can stand in for, by the names of a disk's drivers, nearest first; None without one."""
    names = tuple(names)
    found = next((CONTROLLERS[name] for name in names if name in CONTROLLERS), None)
    return None if found is None or (found.above and found.above not in names) else found


def arguments(controller: Controller, drive: str, file: str, read_only: bool = False) -> list[str]:
    """QEMU's words for a raw file as a disk on a controller of its own; `drive` is its name in QMP."""
    escaped = file.replace(",", ",,")
    options = f"if=none,id={drive},format=raw,discard=unmap,cache=unsafe,file={escaped}"
    words = ["-drive", f"{options},readonly=on" if read_only else options]
    for device in controller.devices:
        words += ["-device", device.format(bus=f"bus-{drive}", drive=drive)]
    return words
