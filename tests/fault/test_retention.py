"""Retention on real file systems and among real owners: needs root, to mount and to give files away."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdumpd.dumps import prune
from kdumpd.dumps.folder import shelves
from kdumpd.dumps.prune import HIDDEN, Pruned
from kdumpd.policy.model import Retention
from tests.unit.dumps.targets import Rig, save_dump

KEEP_ONE = Retention(keep=1, max_size=None, min_free=0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dump(tmp_path_factory.mktemp("good"))


@pytest.fixture
def rig(tmp_path: Path, good: Path) -> Rig:
    return Rig(tmp_path, good)


def pruned(rig: Rig, retention: Retention = KEEP_ONE) -> Pruned:
    found, _ = shelves(tuple(str(target) for target in rig.targets))
    known = rig.record()
    return prune.carry_out(prune.plan(found, known, retention, "web1"), found, known, "web1")[0]


def test_what_root_did_not_make_is_not_trusted(rig: Rig) -> None:
    os.chown(rig.dump(1), 1000, 1000)
    (found,), _ = shelves((str(rig.targets[0]),))
    assert [folder.foreign for folder in found.folders] == ["belongs to user 1000"]


def test_what_another_user_hid_stays(rig: Rig) -> None:
    theirs = rig.targets[0] / f"{HIDDEN}web1-20261124-090000"
    theirs.mkdir()
    os.chown(theirs, 1000, 1000)
    rig.run()
    pruned(rig)
    assert rig.names() == [theirs.name]


def test_nothing_of_others_goes_whatever_the_policy(rig: Rig) -> None:
    for number in range(3):
        (rig.targets[0] / f"20261124100{number}").mkdir()
        os.chown(rig.dump(number), 1000, 1000)
    rig.dump(5)
    rig.run()
    assert pruned(rig, Retention(keep=1, max_size=1, min_free=1 << 60)).removed == ()
    assert len(rig.names()) == 7


@pytest.fixture
def mounted(rig: Rig) -> Iterator[Path]:
    """Another file system inside the older dump."""
    place = rig.dump(1) / "inside"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    (place / "file").write_text("precious")
    yield place
    subprocess.run(["umount", next(rig.targets[0].rglob("inside"))], check=True)


def test_another_file_system_inside_a_dump_is_left_alone(rig: Rig, mounted: Path) -> None:
    rig.dump(2)
    rig.run()
    (failed,) = pruned(rig).failed
    assert "another file system" in failed.why
    (inside,) = rig.targets[0].rglob("inside")
    assert (inside / "file").read_text() == "precious"


@pytest.fixture
def full(rig: Rig) -> Iterator[Rig]:
    """The target is a file system of 2 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "none", rig.targets[0]], check=True)
    yield rig
    subprocess.run(["umount", rig.targets[0]], check=True)


def test_on_a_full_disk_old_dumps_make_room_for_the_next(full: Rig) -> None:
    size = (1 << 20) + (1 << 19)
    for number in (1, 2):
        (full.folder(number, failure="none") / "vmcore.incomplete").write_bytes(bytes(size // 2))
    events = full.run(Retention(keep=None, max_size=None, min_free=1 << 20))
    assert [event.event for event in events] == ["crash-found", "crash-found", "pruned"]
    assert "retention.min_free: 1.0 MiB" in events[-1].reason
    assert full.names() == ["web1-20261124-100002"]


@pytest.fixture
def no_room_for_records(rig: Rig) -> Iterator[Rig]:
    """The state folder is a file system that is full."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4K,nr_inodes=2", "none", rig.state], check=True)
    (rig.state / "full").write_bytes(bytes(4096))
    yield rig
    subprocess.run(["umount", rig.state], check=True)


def test_where_no_record_can_be_written_crashes_are_told_and_retention_works(no_room_for_records: Rig) -> None:
    rig = no_room_for_records
    rig.dump(1), rig.dump(2)
    events = [event.event for event in rig.run(KEEP_ONE)]
    assert events == ["record-failed", "crash-found", "crash-found", "pruned"]
    assert rig.names() == ["web1-20261124-100002"]
