"""The second initrd: it brings the VM's drivers and targets, and names all that it brings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from kdumpd.errors import RehearsalError
from kdumpd.image import archive, settings, units
from kdumpd.rehearse import overlay
from kdumpd.rehearse.guest import OVERLAY
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.scenario import OverlayFile
from kdumpd.steps.build import CaptureTarget
from tests.unit.image.kerneltree import RELEASE, tree

TARGET = CaptureTarget("UUID=b3a1", "ext4", "/var/crash", "/var/crash")
OTHERS = CaptureTarget("/dev/sda1", "ext4", "/var/crash", "/var/crash")
CARRIED = f"/usr/lib/modules/{RELEASE}/kernel/fs/ext4/ext4.ko"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(RELEASE, tmp_path / "vmlinuz", tree(tmp_path), None)


def image_of(folder: Path, *more: archive.Entry) -> Path:
    """An image that carries ext4 alone and is made for another disk."""
    files = (
        archive.file(settings.MODULES, settings.modules_json([CARRIED]).encode()),
        archive.file(settings.TARGETS, settings.targets_json((OTHERS,), "host1", ()).encode()),
        archive.file(CARRIED.lstrip("/"), b"the image's own"),
        *more,
    )
    path = folder / "capture.img"
    path.write_bytes(zstandard.compress(archive.pack(files)))
    return path


def laid(image: Path, kernel: Kernel, *extra: OverlayFile) -> dict[str, bytes]:
    lent = overlay.Lent(("virtio_blk",), ("ext4",))
    return overlay.files(overlay.carried(image), kernel, lent, (TARGET,), "rehearsal", extra)


def test_drivers_the_image_lacks_are_brought_and_come_first(tmp_path: Path, kernel: Kernel) -> None:
    files = laid(image_of(tmp_path), kernel)
    order = json.loads(files[settings.MODULES])["modules"]
    names = [path.rpartition("/")[2] for path in order]
    assert names.index("virtio_blk.ko") < names.index("ext4.ko")
    assert CARRIED.lstrip("/") not in files
    assert all(path == CARRIED or path.lstrip("/") in files for path in order)


def test_the_targets_are_those_of_the_vms_disks(tmp_path: Path, kernel: Kernel) -> None:
    targets = json.loads(laid(image_of(tmp_path), kernel)[settings.TARGETS])
    assert targets["targets"][0]["device"] == "UUID=b3a1"
    assert targets["hostname"] == "rehearsal"


def test_everything_that_is_brought_is_listed_with_its_size(tmp_path: Path, kernel: Kernel) -> None:
    files = laid(image_of(tmp_path), kernel, OverlayFile("/etc/kdumpd/policy.json", b"broken"))
    listed = json.loads(files[OVERLAY])["files"]
    assert listed == {f"/{path}": len(data) for path, data in files.items() if path != OVERLAY}
    assert files["etc/kdumpd/policy.json"] == b"broken"


def test_a_list_of_ones_own_is_left_as_it_is(tmp_path: Path, kernel: Kernel) -> None:
    files = laid(image_of(tmp_path), kernel, OverlayFile(OVERLAY, b"{}"))
    assert files[OVERLAY] == b"{}"


def test_an_image_that_waits_for_another_machines_disks_does_not_here(tmp_path: Path, kernel: Kernel) -> None:
    hook = "var/lib/dracut/hooks/initqueue/finished/50-initqueue-finished.sh"
    waiting = (
        archive.file(units.DROP_IN, b"[Unit]\nAfter=dev-sda1.device\n"),
        archive.file(hook, b"[ -e /dev/sda1 ]\n"),
    )
    files = laid(image_of(tmp_path, *waiting), kernel)
    assert files[units.DROP_IN] == b"[Unit]\n"
    assert files[hook] == b"true\n"
    assert not {units.DROP_IN, hook} & set(laid(image_of(tmp_path), kernel))


def test_an_image_that_has_all_that_it_needs_is_left_alone(tmp_path: Path, kernel: Kernel) -> None:
    """Nothing is lent, and its targets are those that the VM has: not one byte comes behind it."""
    own = settings.targets_json((TARGET,), "host1", ()).encode()
    entries = overlay.carried(image_of(tmp_path, archive.file(settings.TARGETS, own)))
    assert overlay.targets_of(entries) == ((TARGET,), "host1")
    assert overlay.files(entries, kernel, overlay.Lent(), (TARGET,), "host1") == {}
    assert overlay.pack({}) == b""
    other = overlay.files(entries, kernel, overlay.Lent(), (TARGET._replace(directory="/x"),), "host1")
    assert set(other) == {settings.TARGETS, OVERLAY}


def test_ranges_to_leave_alone_are_the_vms_own(tmp_path: Path, kernel: Kernel) -> None:
    own = settings.targets_json((TARGET,), "host1", ((0, 4096),)).encode()
    entries = overlay.carried(image_of(tmp_path, archive.file(settings.TARGETS, own)))
    files = overlay.files(entries, kernel, overlay.Lent(), (TARGET,), "host1")
    assert json.loads(files[settings.TARGETS])["hands_off"] == []


def test_the_archive_is_aligned_so_that_another_may_follow(tmp_path: Path, kernel: Kernel) -> None:
    packed = overlay.pack(laid(image_of(tmp_path), kernel))
    assert len(packed) % overlay.ALIGNMENT == 0
    assert len(overlay.aligned(b"12345")) == overlay.ALIGNMENT


def test_what_is_no_image_is_refused(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "capture.img"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RehearsalError, match="not an image that kdumpd built"):
        laid(path, kernel)
