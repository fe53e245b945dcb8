"""The lock and the records under /var/lib/kdumpd."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.host import statefile
from kdumpd.image import build
from kdumpd.loader.contents import Piece
from kdumpd.plan import state
from kdumpd.plan.situation import BuiltRecord, DiskState, LoadedRecord

RECORD = LoadedRecord("boot-1", "i1", "/boot/vmlinuz", "v1", "irqpoll")


def test_nothing_on_the_disk_is_no_image_and_no_record(tmp_path: Path) -> None:
    assert state.read(tmp_path, "6.1") == DiskState(None, None, "", None)


def test_files_that_make_no_sense_count_as_missing(tmp_path: Path) -> None:
    image = state.image_of(tmp_path, "6.1")
    image.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    (image.parent / "capture.manifest.json").write_text('{"files": 3}')
    (statefile.folder(tmp_path) / "loaded.json").write_text("[]")
    found = state.read(tmp_path, "6.1")
    assert (found.manifest, found.loaded) == (None, None)
    assert len(found.image_sha256) == 64


def test_a_record_of_before_and_of_a_later_version_is_read(tmp_path: Path) -> None:
    statefile.folder(tmp_path).mkdir(parents=True)
    old = {"boot_id": "boot-1", "image_sha256": "i1", "vmlinuz": "/boot/vmlinuz", "vmlinuz_sha256": "v1"}
    document = json.dumps({**old, "command_line": "irqpoll", "version": 2, "of_later": [1]})
    state.loaded_file(tmp_path).write_text(document)
    assert state.read_loaded(tmp_path) == RECORD


def test_a_whole_record_is_read_back_and_only_root_may(tmp_path: Path) -> None:
    pieces = (Piece("image", 4096, 12, "aa"), Piece("kernel", 8192, 12, "bb"))
    whole = replace(RECORD, release="6.1", time=1.5, reservation=5, pieces=pieces, nodes={"/var/crash": "/dev/sda1"})
    state.record(tmp_path, whole)
    assert state.read_loaded(tmp_path) == whole
    assert state.loaded_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert json.loads(state.loaded_file(tmp_path).read_text())["version"] == 1


def test_the_record_of_a_build_is_read_back(tmp_path: Path) -> None:
    built = BuiltRecord("i1", 12, 3.5, {"targets": [{"path": "/var/crash"}]})
    state.record_build(state.image_of(tmp_path, "6.1"), built)
    assert state.read(tmp_path, "6.1").built == built


def test_the_last_good_policy_is_this_kernels_else_the_one_built_last(tmp_path: Path) -> None:
    assert state.last_good(tmp_path, "6.1") is None
    for release, text, written in (("6.0", "new", 2000), ("5.10", "old", 1000)):
        path = build.policy_beside(state.image_of(tmp_path, release))
        path.parent.mkdir(parents=True)
        path.write_text(text)
        os.utime(path, (written, written))
    assert state.last_good(tmp_path, "6.1") == "new"
    assert state.last_good(tmp_path, "5.10") == "old"


def test_who_holds_the_lock_is_known_and_nobody_else_is(tmp_path: Path) -> None:
    assert state.holder(tmp_path) == ""
    with state.locked(tmp_path, lambda _: None):
        assert state.holder(tmp_path) == str(os.getpid())
    assert state.holder(tmp_path) == ""


def test_the_locks_mark_changes_when_somebody_has_held_it(tmp_path: Path) -> None:
    before = state.lock_mark(tmp_path)
    with state.locked(tmp_path, lambda _: None) as mark:
        assert mark == before == 0
    held = state.lock_mark(tmp_path)
    assert held
    with state.locked(tmp_path, lambda _: None) as mark:
        assert mark == held


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Files are made and have no room, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_mark_of_a_lock_made_on_a_full_disk_changes_as_any_other(full_disk: Path) -> None:
    marks = [state.lock_mark(full_disk)]
    for _ in range(3):
        with state.locked(full_disk, lambda _: None) as mark:
            assert mark == marks[-1]
        marks.append(state.lock_mark(full_disk))
        # The kernel's file times go by its tick.
        time.sleep(0.02)
    assert (statefile.folder(full_disk) / "lock").stat().st_size == 0
    assert marks[0] == 0
    assert len(set(marks)) == len(marks)


def test_who_made_the_lock_and_held_it_second_sees_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one takes it between the two."""
    flock = fcntl.flock

    def second(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        with state.locked(tmp_path, print):
            pass
        flock(descriptor, how)

    before = state.lock_mark(tmp_path)
    monkeypatch.setattr(fcntl, "flock", second)
    with state.locked(tmp_path, print) as mark:
        assert mark != before


def test_who_looks_around_while_another_holds_the_lock_sees_that_it_was_held(tmp_path: Path) -> None:
    with state.locked(tmp_path, print):
        time.sleep(0.02)
        before = state.lock_mark(tmp_path)
        time.sleep(0.02)
    with state.locked(tmp_path, print) as mark:
        assert mark != before


def test_who_waited_for_one_that_was_killed_sees_that_it_was_held(tmp_path: Path) -> None:
    (statefile.folder(tmp_path)).mkdir(parents=True)
    held = os.open(statefile.folder(tmp_path) / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    before = state.lock_mark(tmp_path)
    with state.locked(tmp_path, lambda _: os.close(held)) as mark:
        assert mark != before


def test_a_record_is_read_back(tmp_path: Path) -> None:
    statefile.folder(tmp_path).mkdir(parents=True)
    state.record(tmp_path, RECORD)
    assert state.read(tmp_path, "6.1").loaded == RECORD


def test_a_record_that_cannot_be_written_is_kept_for_this_boot_until_it_can(tmp_path: Path) -> None:
    before, now = replace(RECORD, boot_id="boot-0"), replace(RECORD, command_line="quiet")
    state.record(tmp_path, before)
    place = state.loaded_file(tmp_path)
    # What no file can replace, for root neither.
    place.unlink()
    (place / "x").mkdir(parents=True)
    said = state.record(tmp_path, now)
    assert said.startswith(f"{place}: cannot be written: Is a directory; ")
    assert said.endswith(f"on record for this boot alone, in {tmp_path}/run/kdumpd/loaded.json")
    assert state.read_loaded(tmp_path) == now
    assert state.kept_file(tmp_path).stat().st_mode & 0o777 == 0o600
    (place / "x").rmdir()
    place.rmdir()
    assert state.record(tmp_path, RECORD) == ""
    assert state.read_loaded(tmp_path) == RECORD
    assert not state.kept_file(tmp_path).exists()


def test_a_lock_on_a_full_disk_is_a_lock(tmp_path: Path) -> None:
    folder = statefile.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "lock").symlink_to("/dev/full")
    with state.locked(tmp_path, lambda _: None):
        pass


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with state.locked(tmp_path, say):
            order.append("second")

    with state.locked(tmp_path, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == [f"another kdumpd (process {os.getpid()}) is at work; waiting for it to end"]


def test_a_folder_that_cannot_be_made_is_no_matter_of_privilege(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    said = r"Not a directory; .*: make that folder one it can write to"
    with pytest.raises(HostError, match=said), state.locked(tmp_path, print):
        pass


@pytest.mark.parametrize(
    "member",
    [
        {"nodes": ["/dev/sda1"]},
        {"nodes": {"/var/crash": 5}},
        {"command_line": 7},
        {"vmlinuz": None},
        {"memory": "not a range"},
        {"cpus": ["0-3"]},
        {"reservation": "much"},
        {"time": float("nan")},
        {"time": float("inf")},
        {"reservation": 10**400},
        {"pieces": {"name": 1}},
        {"pieces": [5]},
        {"pieces": [["image", float("inf"), 1, "a"]]},
    ],
)
def test_a_record_with_a_member_of_another_kind_is_none(tmp_path: Path, member: dict[str, object]) -> None:
    state.record(tmp_path, RECORD)
    document = json.loads(state.loaded_file(tmp_path).read_text()) | member
    state.loaded_file(tmp_path).write_text(json.dumps(document))
    assert state.read_loaded(tmp_path) is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"pieces": null}', '{"targets": [], "size": "x"}', "null"])
def test_no_document_raises(tmp_path: Path, text: str) -> None:
    image = state.image_of(tmp_path, "6.1")
    image.parent.mkdir(parents=True)
    for path in (state.loaded_file(tmp_path), state.built_beside(image), build.manifest_beside(image)):
        path.write_text(text)
    found = state.read(tmp_path, "6.1")
    assert (found.loaded, found.built, found.manifest) == (None, None, None)
