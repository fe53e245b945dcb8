"""Events: of which files and devices there are some, and that they are heard."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from kdumpd.service.paths import Paths
from kdumpd.service.watch import Devices, Files, Mounts, matters


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for folder in ("etc", "boot", "lib/modules/6.1", "var/lib/kdumpd/6.1", "run/kdumpd", "usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/kdumpd.yaml").write_text("version: 1\n")
    (tmp_path / "usr/sbin/kexec").write_text("")
    return Paths(str(tmp_path), "6.1")


def _heard(files: Files) -> set[str]:
    select.select([files], [], [], 2)
    return files.read()


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("etc/kdumpd.yaml", "policy"),
        ("var/lib/kdumpd/6.1/capture.img", "state"),
        ("var/lib/kdumpd/loaded.json", "state"),
        ("run/kdumpd/disarmed", "state"),
        ("boot/vmlinuz-6.2", "boot"),
        ("lib/modules/6.1/modules.dep", "modules"),
    ],
)
def test_a_file_that_is_written_is_heard_of(paths: Paths, path: str, word: str) -> None:
    files = Files(paths)
    (Path(paths.root) / path).write_text("x")
    assert _heard(files) == {word}


def test_an_editor_that_renames_is_heard_of_again_and_again(paths: Paths) -> None:
    files = Files(paths)
    for text in ("a", "b", "c"):
        new = Path(paths.root) / "etc/.kdumpd.yaml.swp"
        new.write_text(text)
        new.replace(paths.policy)
        assert _heard(files) == {"policy"}


def test_a_link_to_a_neighbour_and_the_neighbour_are_both_heard_of(paths: Paths) -> None:
    link, neighbour = Path(paths.policy), Path(paths.policy).with_name("web.yaml")
    link.replace(neighbour)
    link.symlink_to(neighbour.name)
    files = Files(paths)
    neighbour.write_text("version: 1\n# web\n")
    assert _heard(files) == {"policy"}
    link.with_name("new").symlink_to("database.yaml")
    link.with_name("new").replace(link)
    assert _heard(files) == {"policy"}


def test_other_files_beside_the_policy_are_nobodys_business(paths: Paths) -> None:
    files = Files(paths)
    (Path(paths.root) / "etc/passwd").write_text("x")
    assert _heard(files) == set()


def test_what_the_service_writes_itself_does_not_wake_it_to_look(paths: Paths) -> None:
    files = Files(paths)
    for path in (paths.service, paths.running):
        Path(f"{path}.new").write_text("x")
        Path(f"{path}.new").replace(path)
    Path(paths.service).write_text("x")
    assert files.read() == set()


def test_who_starts_a_program_that_loads_crash_kernels_is_heard_of(paths: Paths) -> None:
    files = Files(paths)
    os.close(os.open(paths.loaders[0], os.O_RDONLY))
    assert _heard(files) == {"loader"}


def test_a_folder_that_comes_later_is_watched_as_well(paths: Paths) -> None:
    later = paths._replace(release="6.2")
    files = Files(later)
    Path(later.images).mkdir()
    assert _heard(files) == {"state"}
    (Path(later.images) / "capture.img").write_text("x")
    assert _heard(files) == {"state"}


@pytest.mark.parametrize(
    ("uevent", "wanted"),
    [
        (
            "add@/devices/pci0/virtio1/block/vdb\0ACTION=add\0DEVPATH=/devices/pci0/virtio1/block/vdb\0SUBSYSTEM=block",
            True,
        ),
        ("add@/devices/system/memory/memory40\0DEVPATH=/devices/system/memory/memory40\0SUBSYSTEM=memory", True),
        ("add@/devices/system/cpu/cpu2\0DEVPATH=/devices/system/cpu/cpu2\0SUBSYSTEM=cpu", True),
        ("change@/devices/virtual/block/loop3\0DEVPATH=/devices/virtual/block/loop3\0SUBSYSTEM=block", False),
        ("add@/devices/virtual/net/veth1\0DEVPATH=/devices/virtual/net/veth1\0SUBSYSTEM=net", False),
        ("", False),
    ],
)
def test_uevents_of_disks_memory_and_processors_matter(uevent: str, wanted: bool) -> None:
    assert matters(uevent.encode()) is wanted


def test_devices_and_mounts_can_be_waited_for() -> None:
    devices, mounts = Devices(), Mounts(Paths())
    poll = select.poll()
    poll.register(devices, select.POLLIN)
    poll.register(mounts, mounts.events)
    poll.poll(0)
    assert devices.read() <= {"device", "everything"}
    assert mounts.read() == {"mounts"}
