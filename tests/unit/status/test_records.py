"""The records of others: what is missing, torn or not ours to read is nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kdumpd.host import statefile
from kdumpd.plan import state
from kdumpd.status import records
from kdumpd.status.records import Records


def process(proc: Path, pid: int, began: int) -> None:
    """A process with a name that is made to mislead."""
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) b) S {' '.join(map(str, range(18)))} {began} 0 0\n")


def test_nothing_on_the_disk_is_nothing(tmp_path: Path) -> None:
    assert records.read(tmp_path, tmp_path / "run", tmp_path / "proc") == Records()
    assert state.may_read(tmp_path)


def test_each_record_is_read(tmp_path: Path) -> None:
    folder = statefile.folder(tmp_path)
    statefile.replace(folder / "targets.json", {"targets": [{"path": "/a", "ok": True}, "torn"]})
    statefile.replace(folder / "crashes.json", {"crashes": [{"state": "verified"}]})
    statefile.replace(folder / "rehearsal.json", {"verified": True})
    statefile.replace(tmp_path / "run/kdumpd/service.json", {"armed": True, "pid": 42, "started": 777})
    process(tmp_path / "proc", 42, 777)
    found = records.read(tmp_path, tmp_path / "run", tmp_path / "proc")
    assert found.targets == {"/a": {"path": "/a", "ok": True}}
    assert found.crashes == ({"state": "verified"},)
    assert found.rehearsal == {"verified": True}
    assert found.service_runs


def test_records_that_make_no_sense_are_none(tmp_path: Path) -> None:
    folder = statefile.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "targets.json").write_text('{"targets": 5}')
    (folder / "crashes.json").write_text("[")
    (folder / "rehearsal.json").write_text("7")
    (tmp_path / "run/kdumpd").mkdir(parents=True)
    (tmp_path / "run/kdumpd/service.json").write_text(json.dumps({"pid": "../1"}))
    found = records.read(tmp_path, tmp_path / "run", Path("/proc"))
    assert (found.targets, found.crashes, found.rehearsal, found.service_runs) == ({}, (), None, False)


def test_a_member_of_another_type_counts_as_none() -> None:
    assert records.number({"a": True, "b": "1"}, "a") == records.number({"b": "1"}, "b") == 0
    assert records.text({"a": 5}, "a") == ""
    assert records.text({"a": "two\nlines"}, "a") == "two lines"


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    statefile.replace(statefile.folder(tmp_path) / "targets.json", {})
    statefile.folder(tmp_path).chmod(0)
    child = os.fork()
    if child == 0:
        os.setgroups([]) if os.geteuid() == 0 else None
        os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None
        found = records.read(tmp_path, tmp_path / "run", tmp_path / "proc")
        os._exit(0 if not state.may_read(tmp_path) and found.unread[0] == str(statefile.folder(tmp_path)) else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    statefile.folder(tmp_path).chmod(0o700)
    assert code == 0


@pytest.mark.parametrize("value", [None, [], "x", True, float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_that_makes_no_sense_is_none(value: object) -> None:
    assert records.number({"time": value}, "time") == 0


def test_a_text_cannot_move_a_cursor_nor_stop_the_printing() -> None:
    assert records.text({"why": "a\n\x1b[2Jb\ud800"}, "why") == "a ?[2Jb?"


def test_a_process_number_without_end_and_a_document_without_bottom_are_nothing(tmp_path: Path) -> None:
    statefile.replace(tmp_path / "run/kdumpd/service.json", {"armed": True, "pid": int("9" * 400)})
    statefile.folder(tmp_path).mkdir(parents=True)
    (statefile.folder(tmp_path) / "rehearsal.json").write_text("[" * 100_000)
    found = records.read(tmp_path, tmp_path / "run", tmp_path / "proc")
    assert (found.service_runs, found.rehearsal) == (False, None)


def test_a_service_that_may_not_be_looked_at_runs_where_there_is_such_a_process(tmp_path: Path) -> None:
    statefile.replace(tmp_path / "run/kdumpd/service.json", {"armed": True, "pid": 42, "started": 777})
    (tmp_path / "proc" / "42").mkdir(parents=True, mode=0)  # as /proc with hidepid=1 has it
    for path in (tmp_path, tmp_path / "run/kdumpd"):
        path.chmod(0o755)
    (tmp_path / "run/kdumpd/service.json").chmod(0o644)
    child = os.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.setgroups([]) if os.geteuid() == 0 else None
        os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None
        hidden = records.read(Path(), Path("run"), Path("proc")).service_runs
        gone = records.read(Path(), Path("run"), Path("run")).service_runs
        os._exit(0 if hidden and not gone else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("service", [{"pid": 42, "started": 777}, {"pid": 42}, {"pid": 42, "started": "778"}])
def test_another_process_that_has_the_service_s_number_now_is_not_the_service(
    tmp_path: Path, service: dict[str, object]
) -> None:
    statefile.replace(tmp_path / "run/kdumpd/service.json", {"armed": True, **service})
    process(tmp_path / "proc", 42, 778)
    assert not records.read(tmp_path, tmp_path / "run", tmp_path / "proc").service_runs


def test_a_crash_s_directory_on_a_disk_that_hangs_does_not_hang_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = {"path": "/srv/crash/h-20260101-000000", "identity": "1-2"}
    statefile.replace(statefile.folder(tmp_path) / "crashes.json", {"version": 1, "crashes": [crash]})
    found = records.read(tmp_path, tmp_path / "run", tmp_path / "proc").dump
    assert found is not None
    assert (found.path, found.problem) == (None, "")
    monkeypatch.setattr(records, "find", lambda *_: time.sleep(600))
    monkeypatch.setattr(records, "_DEADLINE", 0.5)
    found = records.read(tmp_path, tmp_path / "run", tmp_path / "proc").dump
    assert found is not None
    assert found.dump
    assert found.problem.startswith("/srv/crash/h-20260101-000000: did not answer within 0 s: its disk hangs or is go")
