"""A crash is on record before its dump is read, which may take hours, hang or be cut short."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumps import aftermath, examine
from kdumpd.dumps.aftermath import Aftermath
from kdumpd.dumps.crashes import Crash, State
from kdumpd.dumps.telling import Event
from tests.unit.dumps.targets import EVERYTHING, PANIC, Rig


class CutShort(BaseException):
    """The service is stopped while a dump is read."""


def cut_short(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Event], tuple[Crash, ...]]:
    """What was told and on record when the first dump was to be read, and the run ended."""
    events: list[Event] = []

    def ending(dump: Dump) -> None:
        raise CutShort

    with monkeypatch.context() as patched:
        patched.setattr(examine, "verify", ending)
        with pytest.raises(CutShort):
            Aftermath(rig.policy(EVERYTHING), rig.places, events.append).run(retain=True)
    return events, rig.record().crashes


def test_a_crash_is_on_record_as_unread_before_its_dump_is_read_and_told_when_it_was(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rig.dump(1)
    rig.running()
    events, (crash,) = cut_short(rig, monkeypatch)
    assert events == []
    assert (crash.path, crash.state, crash.panic, crash.ended) == (str(path), State.UNREAD, PANIC, "boot-1")
    assert crash.why == f"{path}/vmcore: is read by this or the next start of kdumpd.service"
    (event,) = rig.run()
    assert event.reason == f"{PANIC}; its dump is whole: {path}"
    assert [crash.state for crash in rig.record().crashes] == [State.VERIFIED]
    assert rig.run() == []


def test_a_large_one_is_told_before_and_after(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftermath, "_LARGE", 1)
    path = rig.dump(1)
    before, after = rig.run()
    assert (before.event, after.event) == ("crash-found", "crash-found")
    assert before.reason.startswith(f"{PANIC}; whether its dump is good is not known yet: {path}/vmcore: is read by ")
    assert after.reason == f"{PANIC}; its dump is whole: {path}"
    assert rig.run() == []


def test_every_new_crash_is_on_record_before_any_dump_is_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.dump(1), rig.dump(2), rig.dead(3)
    events, crashes = cut_short(rig, monkeypatch)
    assert [event.event for event in events] == ["crash-without-dump"]
    assert [crash.state for crash in crashes] == [State.UNREAD, State.UNREAD, State.INCOMPLETE]
    assert [event.event for event in rig.run()] == ["crash-found"] * 2
    assert [crash.state for crash in rig.record().crashes] == [State.VERIFIED, State.VERIFIED, State.INCOMPLETE]


def test_a_dump_left_unread_that_cannot_be_read_then_is_told_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.dump(1)
    cut_short(rig, monkeypatch)

    def failing(dump: Dump) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(examine, "verify", failing)
    (event,) = rig.run()
    assert "could not be read: Input/output error" in event.reason
    assert rig.run() == []


@pytest.mark.parametrize("runs_before", [0, 1])
def test_the_firmware_s_records_are_no_second_crash_after_a_run_that_was_cut_short(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, runs_before: int
) -> None:
    for _ in range(runs_before):
        rig.run()
    path = rig.dump(1)
    rig.running()
    (rig.kernel / "dmesg-efi-179551440001001").write_text(f"Panic#1 Part1\n<0>[    1.000001] {PANIC}\n")
    cut_short(rig, monkeypatch)
    rig.boot("boot-3")
    (event,) = rig.run()
    assert event.event == "crash-found"
    (crash,) = rig.record().crashes
    assert crash.pstore == (f"{path}/pstore/dmesg-efi-179551440001001",)
    assert all(Path(copy).exists() for copy in crash.pstore)


def test_where_the_other_of_two_dumps_is_the_good_one_the_records_lie_beside_it(tmp_path: Path, good: Path) -> None:
    rig = Rig(tmp_path, good, targets=2)
    rig.run()
    places = [rig.dump(1, target) for target in range(2)]
    (rig.kernel / "dmesg-efi-179551440001001").write_text(f"Panic#1 Part1\n<0>[    1.000001] {PANIC}\n")
    (places[1] / "vmcore").write_bytes(b"no dump")
    (event,) = rig.run()
    assert [crash.state for crash in rig.record().crashes] == [State.DAMAGED, State.VERIFIED]
    assert event.crash is not None
    assert event.crash.pstore == (f"{places[0]}/pstore/dmesg-efi-179551440001001",)


def test_a_dump_that_was_left_unread_keeps_no_new_crash_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.dump(1)
    cut_short(rig, monkeypatch)
    second = rig.dump(2)
    _, crashes = cut_short(rig, monkeypatch)
    assert [crash.state for crash in crashes] == [State.UNREAD, State.UNREAD]
    assert crashes[-1].path == str(second)
