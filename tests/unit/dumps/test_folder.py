"""Which directories are whose, what they tell, and what hostile ones cost: a line each."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdumpd.dumps import told
from kdumpd.dumps.crashes import Crashes
from kdumpd.dumps.folder import Folder, shelf, shelves
from kdumpd.dumps.listing import Kind, Listed, listing
from kdumpd.dumps.owner import owns
from kdumpd.errors import TargetError
from tests.unit.dumps.targets import PANIC, Rig


def folders(rig: Rig) -> dict[str, Folder]:
    found = shelf(str(rig.targets[0]))
    assert found is not None
    return {folder.name: folder for folder in found.folders}


def only(rig: Rig) -> Folder:
    (folder,) = folders(rig).values()
    return folder


def test_a_dump_tells_who_crashed_when_and_what_it_takes(rig: Rig) -> None:
    rig.dump(1, size=100_000)
    folder = only(rig)
    assert (folder.told.host, folder.told.release, folder.told.time) == ("web1", "6.1.0", 1795514401.0)
    assert (folder.final, folder.reported, folder.foreign) == (True, True, "")
    on_disk = sum(path.stat().st_blocks * 512 for path in Path(folder.path).iterdir())
    assert on_disk < folder.size <= on_disk + 8192


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("202611241000", "kdump-tools"),
        ("127.0.0.1-2026-11-24-10:00:01", "kdump-utils"),
        ("web1.example-2026-11-24-10:00:01", "kdump-utils"),
        ("2026-11-24-10:00", "SUSE's kdump"),
    ],
)
def test_a_peer_s_directory_is_foreign(rig: Rig, name: str, whose: str) -> None:
    folder = rig.targets[0] / name
    folder.mkdir(mode=0o700)
    (folder / "vmcore").write_bytes(b"theirs")
    assert only(rig).foreign == whose
    found, _ = shelves((str(rig.targets[0]),))
    (listed,) = listing(found, Crashes(), "web1")
    assert (listed.state, listed.why, listed.panic) == (Kind.FOREIGN, whose, "")


@pytest.mark.parametrize("name", ["lost+found", ".kdumpd-removed-web1-20261124-100001", "notes", "kexec_cmd"])
def test_what_is_no_dump_is_not_listed(rig: Rig, name: str) -> None:
    (rig.targets[0] / name).mkdir()
    assert folders(rig) == {}


def test_files_and_links_are_no_dumps(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (rig.targets[0] / "web1-20261124-100001").symlink_to(tmp_path / "elsewhere")
    (rig.targets[0] / "web1-20261124-100002").write_text("")
    assert folders(rig) == {}


def test_what_others_may_write_in_is_not_trusted(rig: Rig) -> None:
    rig.dump(1).chmod(0o770)
    assert only(rig).foreign == "others may write in it"


def test_a_directory_of_that_name_with_other_things_in_it_is_not_ours(rig: Rig) -> None:
    folder = rig.targets[0] / "backup-20261124-100001"
    folder.mkdir(mode=0o700)
    (folder / "database.sql").write_text("precious")
    assert only(rig).foreign == "has no kdumpd.json"


def record(rig: Rig, content: bytes) -> Folder:
    (rig.folder(1) / "kdumpd.json").write_bytes(content)
    return only(rig)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "kdumpd.json is damaged: it is no JSON"),
        (b"\xff\xfe", "kdumpd.json is damaged: it is no JSON"),
        (b"[" * 99_999, "kdumpd.json is damaged: it is no JSON"),
        (b"[]", "kdumpd.json is no JSON object"),
        (b" " * ((1 << 20) + 1), "kdumpd.json has 1048577 bytes where at most 1048576 are read"),
    ],
)
def test_a_record_that_makes_no_sense_is_one_line_and_the_name_tells(rig: Rig, content: bytes, problem: str) -> None:
    told = record(rig, content).told
    assert told.problem == problem
    assert (told.host, told.time, told.complete) == ("web1", 1795514401.0, False)


def test_a_record_that_is_no_file_is_one_line(rig: Rig) -> None:
    folder = rig.folder(1)
    (folder / "kdumpd.json").unlink()
    os.mkfifo(folder / "kdumpd.json")
    assert only(rig).told.problem == "kdumpd.json is no plain file"


HOSTILE: list[Any] = [None, True, 1, -1, 1e400, float("nan"), 10**40, "x" * 100_000, [], {}, "\x1b[2J\n\u202e"]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize("key", ["host", "time", "release", "failure", "complete", "crash"])
def test_a_value_of_any_type_costs_nothing(rig: Rig, key: str, value: Any) -> None:
    crash = {"host": "web1", "time": 1.0, "release": "6.1.0"}
    document: dict[str, Any] = {"crash": crash, "complete": True, "failure": ""}
    (crash if key in crash else document)[key] = value
    told = record(rig, json.dumps(document).encode()).told
    assert told.complete is (key != "complete" or value is True)
    for text in (told.host, told.release, told.failure):
        assert text.isprintable()
        assert len(text) <= 256
    assert told.time is None or 0 <= told.time < 1e12


def test_a_dump_whose_file_somebody_took_away_is_not_complete_any_more(rig: Rig) -> None:
    folder = rig.dump(1)
    rig.run()
    (folder / "vmcore").unlink()
    found, _ = shelves((str(rig.targets[0]),))
    (listed,) = listing(found, rig.record(), "web1")
    assert listed.state is Kind.INCOMPLETE
    assert listed.why == "the capture saved a whole dump, and vmcore is not there any more; dmesg.txt is there"


def test_a_target_that_is_not_there_has_no_dumps(tmp_path: Path) -> None:
    assert shelf(str(tmp_path / "none")) is None
    assert shelves((str(tmp_path / "none"),)) == ((), ())


def test_a_target_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="is no directory; name another one in the policy"):
        shelf(str(tmp_path / "file"))


def test_a_directory_that_two_targets_name_is_looked_at_once(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(rig.targets[0])
    found, problems = shelves((str(rig.targets[0]), str(tmp_path / "link")))
    assert [one.path for one in found] == [str(rig.targets[0])]
    assert problems == ()


def test_a_target_whose_disk_hangs_is_one_line_and_the_others_are_looked_at(
    tmp_path: Path, good: Path, hang: Callable[[Path], None]
) -> None:
    rig = Rig(tmp_path, good, targets=2)
    rig.dump(1), rig.dump(2, target=1)
    hang(rig.targets[0])
    started = time.monotonic()
    found, problems = shelves(tuple(str(target) for target in rig.targets))
    assert time.monotonic() - started < 5
    assert [(one.path, len(one.folders)) for one in found] == [(str(rig.targets[1]), 1)]
    (problem,) = problems
    assert problem.startswith(f"{rig.targets[0]}: did not answer within ")


def test_the_list_has_the_newest_first_and_says_what_each_is(rig: Rig) -> None:
    rig.dump(1)
    (rig.dump(2) / "vmcore").write_bytes(b"broken")
    rig.folder(3, failure="No space left on device")
    rig.run()
    rig.dump(4)
    rig.dead(5)
    (rig.targets[0] / "202611241000").mkdir()
    found, _ = shelves((str(rig.targets[0]),))
    listed = listing(found, rig.record(), "web1")
    kinds = [one.state for one in listed]
    assert kinds == [
        Kind.INCOMPLETE,
        Kind.UNVERIFIED,
        Kind.INCOMPLETE,
        Kind.DAMAGED,
        Kind.COMPLETE,
        Kind.FOREIGN,
    ]
    assert [one.panic for one in listed] == [PANIC] * 5 + [""]
    assert "last stage dump: 10 of 20 pages" in listed[0].why
    assert listed[4].why == ""


def test_another_host_s_dump_is_listed_as_its_own_affair(rig: Rig) -> None:
    rig.of("web1-a", 1)
    found, _ = shelves((str(rig.targets[0]),))
    (listed,) = listing(found, Crashes(), "web1")
    assert (listed.state, listed.host) == (Kind.UNVERIFIED, "web1-a")
    assert listed.why == "of another host, web1-a, which reads it itself"


def unread(rig: Rig, patched: pytest.MonkeyPatch, name: str, known: Crashes) -> tuple[Folder, list[Listed]]:
    """The directory of that name, and the list, on a disk that does not answer for that directory."""
    record = told.record

    def failing(folder: int, its: str) -> told.Told:
        if its == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return record(folder, its)

    patched.setattr(told, "record", failing)
    found, _ = shelves((str(rig.targets[0]),))
    return folders(rig)[name], listing(found, known, "web1")


def test_a_dump_s_directory_that_cannot_be_read_now_is_unverified_and_nobody_else_s(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = rig.dump(1).name
    folder, (listed,) = unread(rig, monkeypatch, name, Crashes())
    assert (folder.foreign, folder.unread) == ("", "cannot be read: Input/output error")
    assert (listed.state, listed.why) == (Kind.UNVERIFIED, "cannot be read: Input/output error")
    assert (listed.host, listed.time) == ("web1", 1795514401.0)
    # Retention neither counts it nor takes it away.
    assert not owns(("web1",), folder)


def test_a_dump_that_was_read_once_is_unverified_in_its_place_while_its_directory_cannot_be_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = rig.dump(1), rig.dump(2)
    rig.run()
    _, listed = unread(rig, monkeypatch, older.name, rig.record())
    assert [(one.path, one.state) for one in listed] == [
        (str(newer), Kind.COMPLETE),
        (str(older), Kind.UNVERIFIED),
    ]


def test_what_others_may_write_in_is_foreign_also_where_it_cannot_be_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rig.dump(1)
    path.chmod(0o770)
    opens = os.open

    def no_open(name: str, *arguments: Any, **options: Any) -> int:
        if name == path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opens(name, *arguments, **options)

    monkeypatch.setattr(os, "open", no_open)
    assert only(rig).foreign == "others may write in it"


def test_a_peer_s_directory_that_cannot_be_read_is_foreign(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.targets[0] / "202611241000").mkdir(mode=0o700)
    opens = os.open

    def no_open(name: str, *arguments: Any, **options: Any) -> int:
        if name == "202611241000":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opens(name, *arguments, **options)

    monkeypatch.setattr(os, "open", no_open)
    folder = only(rig)
    assert (folder.foreign, folder.unread) == ("kdump-tools", "")
