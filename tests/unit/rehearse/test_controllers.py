"""Which of QEMU's controllers stands in for a host's, and how a disk is attached to it."""

from __future__ import annotations

import pytest

from kdumpd.rehearse.controllers import CONTROLLERS, VIRTIO_BLK, arguments, emulated


@pytest.mark.parametrize(
    ("names", "driver"),
    [
        (("sd", "ahci"), "ahci"),
        (("nvme", "pcieport"), "nvme"),
        (("sd", "megaraid_sas", "pcieport"), "megaraid_sas"),
        (("sd", "virtio_scsi", "virtio-pci"), "virtio_scsi"),
        (("virtio_blk", "virtio-pci"), "virtio_blk"),
    ],
)
def test_the_host_s_driver_names_the_controller(names: tuple[str, ...], driver: str) -> None:
    assert emulated(names) is CONTROLLERS[driver]


@pytest.mark.parametrize(
    "names", [(), ("sd", "hpsa"), ("sd", "usb-storage", "xhci_hcd"), ("virtio_blk", "virtio-mmio")]
)
def test_what_qemu_does_not_emulate_on_its_bus_has_none(names: tuple[str, ...]) -> None:
    assert emulated(names) is None


def test_every_controller_has_its_drive_and_its_own_name_on_the_bus() -> None:
    for controller in CONTROLLERS.values():
        words = arguments(controller, "disk1", "/a,b/disk")
        assert words[1].endswith("file=/a,,b/disk")
        devices = words[3::2]
        assert words[2::2] == ["-device"] * len(devices)
        assert "drive=disk1" in devices[-1]
        assert all("{" not in device for device in devices)
        assert len(devices) == 1 or "id=bus-disk1" in devices[0]


def test_a_disk_that_may_not_be_written_says_so() -> None:
    assert arguments(VIRTIO_BLK, "fixed0", "/disk", read_only=True)[1].endswith(",readonly=on")
