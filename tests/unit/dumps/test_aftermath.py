"""What a start of the service finds of the boot before, on targets made of files."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumps import aftermath, examine
from kdumpd.dumps.aftermath import Aftermath
from kdumpd.dumps.crashes import State
from kdumpd.dumps.telling import Event
from kdumpd.errors import PolicyError
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import default
from kdumpd.policy.model import Retention
from tests.unit.dumps.targets import PANIC, Rig

KEEP_ONE = Retention(keep=1, max_size=None, min_free=0)


def test_a_new_dump_is_read_whole_recorded_and_told_once(rig: Rig) -> None:
    path = str(rig.dump(1))
    rig.running()
    (event,) = rig.run()
    assert (event.event, event.reason) == ("crash-found", f"{PANIC}; its dump is whole: {path}")
    assert event.message.startswith(f"web1 crashed at 2026-11-24 10:00:01 UTC: {PANIC}; {path} (")
    (crash,) = rig.record().crashes
    assert (crash.path, crash.state, crash.panic, crash.why) == (path, State.VERIFIED, PANIC, "")
    assert (crash.host, crash.release, crash.time) == ("web1", "6.1.0", 1795514401.0)
    assert (crash.found, crash.ended) == ("boot-2", "boot-1")
    assert rig.run() == []
    assert json.dumps(event.document())


def test_what_could_not_be_told_is_told_by_the_next_run(rig: Rig) -> None:
    rig.dump(1)

    def deaf(event: Event) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Aftermath(rig.policy(), rig.places, deaf).run(retain=True)
    assert [event.event for event in rig.run()] == ["crash-found"]


def test_a_machine_without_any_dump_says_nothing(rig: Rig) -> None:
    assert rig.run() == []
    rig.targets[0].rmdir()
    assert rig.run() == []


def test_a_dump_with_a_page_that_does_not_read_is_damaged(rig: Rig) -> None:
    dump = rig.dump(1) / "vmcore"
    content = bytearray(dump.read_bytes())
    content[-3000:-2900] = bytes(100)
    dump.write_bytes(content)
    (event,) = rig.run()
    assert event.event == "crash-found"
    assert "is DAMAGED: " in event.message
    (crash,) = rig.record().crashes
    assert crash.state is State.DAMAGED
    assert crash.why in event.reason


@pytest.mark.parametrize(
    "failure", [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOMEM, "?"), MemoryError()]
)
def test_a_dump_that_could_not_be_read_is_not_damaged_and_is_read_again_at_the_next_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    path = rig.dump(1)
    rig.running()

    def failing(dump: Dump) -> None:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(examine, "verify", failing)
        (event,) = rig.run()
        assert (event.event, "DAMAGED" in event.message) == ("crash-found", False)
        assert event.reason.startswith(
            f"{PANIC}; whether its dump is good is not known yet: {path}/vmcore: could not be"
        )
        assert event.reason.endswith("; it is read again at kdumpd.service's next start")
        (crash,) = rig.record().crashes
        assert crash.state is State.UNREAD
        rig.boot("boot-3")
        assert rig.run() == []
    (event,) = rig.run()
    assert event.reason == f"{PANIC}; its dump is whole: {path}"
    (crash,) = rig.record().crashes
    assert (crash.state, crash.why, crash.found, crash.ended) == (State.VERIFIED, "", "boot-2", "boot-1")
    assert rig.run() == []


def test_a_dump_that_could_not_be_read_stays_whatever_retention_says(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rig.dump(1)

    def failing(dump: Dump) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(examine, "verify", failing)
        rig.run()
        rig.dump(2), rig.dead(3)
        rig.run(KEEP_ONE)
    assert first.name in rig.names()


@pytest.mark.parametrize("name", ["kdumpd.json", "stage.txt", "vmcore"])
def test_a_directory_whose_files_cannot_be_read_now_is_looked_at_again_and_not_called_incomplete(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rig.dump(1) if name == "vmcore" else rig.dead(1)
    stat, opens = os.stat, os.open

    def no_stat(path: str, *arguments: Any, **options: Any) -> os.stat_result:
        if path == name == "vmcore":
            raise OSError(errno.EIO, "Input/output error")
        return stat(path, *arguments, **options)

    def no_open(path: str, *arguments: Any, **options: Any) -> int:
        if path == name:
            raise OSError(errno.EIO, "Input/output error")
        return opens(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", no_stat)
        patched.setattr(os, "open", no_open)
        assert rig.run() == []
        assert rig.record().crashes == ()
    (event,) = rig.run()
    assert event.event == ("crash-found" if name == "vmcore" else "crash-without-dump")


def test_a_dump_that_is_none_is_damaged_in_one_line(rig: Rig) -> None:
    (rig.dump(1) / "vmcore").write_bytes(b"no dump")
    (event,) = rig.run()
    assert "is DAMAGED" in event.message
    assert "\n" not in event.message


def test_a_capture_that_told_its_failure_is_a_crash_without_a_whole_dump(rig: Rig) -> None:
    rig.folder(1, failure="No space left on device")
    (event,) = rig.run()
    assert event.event == "crash-found"
    assert event.reason == f"{PANIC}; there is no whole dump: No space left on device; dmesg.txt is there"
    assert rig.record().crashes[0].state is State.INCOMPLETE


def test_a_capture_that_died_is_told_with_its_last_stage(rig: Rig) -> None:
    path = rig.dead(1)
    rig.running()
    (event,) = rig.run()
    assert event.event == "crash-without-dump"
    assert event.reason == (
        "crashed at 2026-11-24 10:00:01 UTC, the capture kernel did not report; last stage "
        "dump: 10 of 20 pages, 300 MiB (8 s after the capture kernel's start, 60 MiB of memory left)"
    )
    assert event.message == (
        f"web1 {event.reason}; {PANIC}; {path}: dmesg.txt and 3 MiB of vmcore.incomplete are there"
    )
    assert rig.run() == []


def test_a_capture_that_died_before_its_first_record_is_told_by_its_name(rig: Rig) -> None:
    folder = rig.targets[0] / "web1-20261124-100001"
    folder.mkdir(mode=0o700)
    (event,) = rig.run()
    assert event.event == "crash-without-dump"
    assert "crashed at 2026-11-24 10:00:01 UTC, the capture kernel did not report; last stage unknown" in event.reason
    assert event.message.endswith(f"{folder}: nothing was saved")


def test_one_crash_on_two_targets_is_one_event_and_the_best_is_last(tmp_path: Path, good: Path) -> None:
    rig = Rig(tmp_path, good, targets=2)
    failed, whole = rig.folder(1, failure="No space left on device"), rig.dump(1, target=1)
    (event,) = rig.run()
    assert event.crash is not None
    assert event.crash.path == str(whole)
    assert f"; {failed}: No space left on device" in event.message
    assert [crash.state for crash in rig.record().crashes] == [State.INCOMPLETE, State.VERIFIED]


def test_a_boot_that_ended_by_itself_is_told_honestly_and_once(rig: Rig) -> None:
    rig.run()
    rig.running()
    (event,) = rig.run()
    assert event.event == "crash-without-dump"
    assert event.reason.startswith("the boot before, watched since 2026-11-24 08:46:40 UTC, ended before ")
    assert "a crash of which the capture kernel did not report, a reset and a power cut look the same" in event.reason
    assert event.message.endswith("; a crash kernel was loaded")
    (crash,) = rig.record().crashes
    assert (crash.state, crash.path, crash.ended) == (State.MISSING, None, "boot-1")
    assert rig.run() == []


def test_a_boot_without_a_crash_kernel_is_told_so(rig: Rig) -> None:
    rig.running(armed=False)
    (event,) = rig.run()
    assert event.message.endswith("; no crash kernel was loaded then")


def test_this_boot_s_own_record_is_no_evidence(rig: Rig) -> None:
    rig.running("boot-2")
    assert rig.run() == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"boot_id": 1}', '{"boot_id": ""}', "[" * 99_999, "null"])
def test_a_record_of_running_that_makes_no_sense_is_none(rig: Rig, text: str) -> None:
    (rig.state / "running.json").write_text(text)
    assert rig.run() == []


def test_a_dump_whose_target_came_late_takes_the_place_of_the_missing_one(rig: Rig) -> None:
    rig.running()
    whole = rig.dump(1)
    away = rig.targets[0].rename(rig.targets[0].with_name("away"))
    (missing,) = rig.run()
    assert missing.message.endswith(f"; not there to be looked at: {rig.targets[0]}")
    away.rename(rig.targets[0])
    (event,) = rig.run()
    assert event.event == "crash-found"
    (crash,) = rig.record().crashes
    assert (crash.path, crash.ended) == (str(whole), "boot-1")
    assert rig.run() == []


def test_an_old_dump_does_not_explain_a_boot_that_ended_later(rig: Rig) -> None:
    rig.dump(1)
    rig.running(since=1795600000.0)
    assert [event.event for event in rig.run()] == ["crash-without-dump", "crash-found"]


def test_a_clock_in_1970_is_said_and_the_dump_is_still_the_newest(rig: Rig) -> None:
    rig.dump(1)
    rig.run()
    rig.boot("boot-3")
    rig.running("boot-2", since=30.0)
    folder = rig.dump(2, crash={"host": "web1", "time": 12.0, "release": "6.1.0"})
    early = folder.rename(folder.with_name("web1-19700101-000012"))
    events = rig.run(KEEP_ONE)
    assert [event.event for event in events] == ["crash-found", "pruned"]
    assert "at 1970-01-01 00:00:12 UTC (by a clock that was not set)" in events[0].message
    assert rig.names() == [early.name]


def test_a_second_crash_under_the_same_name_is_found(rig: Rig) -> None:
    first = rig.dump(1)
    rig.run()
    shutil.rmtree(first)
    rig.boot("boot-3")
    rig.dump(1)
    (event,) = rig.run()
    assert event.event == "crash-found"


def test_a_dump_that_was_renamed_by_hand_is_no_second_crash(rig: Rig) -> None:
    dump = rig.dump(1)
    rig.run()
    dump = dump.rename(dump.with_name("incident7-20261124-100001"))
    rig.boot("boot-3")
    assert rig.run() == []
    (crash,) = rig.record().crashes
    assert (crash.path, crash.state) == (str(dump), State.VERIFIED)


def test_a_name_that_was_taken_is_another_crash(rig: Rig) -> None:
    rig.dump(1)
    folder = rig.dump(2, crash={"host": "web1", "time": 1795514401.0, "release": "6.1.0"})
    folder.rename(folder.with_name("web1-20261124-100001-2"))
    assert [event.event for event in rig.run()] == ["crash-found", "crash-found"]


def test_retention_takes_the_older_ones_after_they_were_told(rig: Rig) -> None:
    first, second = rig.dump(1), rig.dump(2)
    events = rig.run(KEEP_ONE)
    assert [event.event for event in events] == ["crash-found", "crash-found", "pruned"]
    assert events[-1].reason == f"{first}: retention.keep: 1: 1 newer one is there"
    assert rig.names() == [second.name]
    assert [crash.removed for crash in rig.record().crashes] == ["retention.keep: 1: 1 newer one is there", ""]
    assert rig.run(KEEP_ONE) == []


def test_a_record_that_is_damaged_is_said_and_made_anew(rig: Rig) -> None:
    rig.dump(1)
    rig.run()
    (rig.state / "crashes.json").write_text('{"version": 1, "crashes": [{}]}')
    assert [event.event for event in rig.run()] == ["record-damaged", "crash-found"]
    assert rig.run() == []


def test_a_target_that_is_no_directory_is_one_line_and_the_others_are_looked_at(tmp_path: Path, good: Path) -> None:
    rig = Rig(tmp_path, good, targets=2)
    rig.targets[0].rmdir()
    rig.targets[0].write_text("")
    rig.dump(1, target=1)
    events = rig.run()
    assert [event.event for event in events] == ["target-failed", "crash-found"]
    assert events[0].reason == f"{rig.targets[0]}: is no directory; name another one in the policy"


def test_a_broken_policy_leaves_the_last_good_one_in_force_and_nothing_goes(tmp_path: Path) -> None:
    policy = tmp_path / "kdumpd.yaml"
    policy.write_text("dmup: 1\n")
    state = tmp_path / "state"
    for number, name in enumerate(("6.1.0", "6.2.0")):
        (state / name).mkdir(parents=True)
        saved = state / name / "capture.policy.json"
        saved.write_text(to_json(default()) if number == 0 else "damaged")
        os.utime(saved, (number, number))
    assert aftermath.policy_of(str(policy), str(state)) == (default(), False)
    (state / "6.1.0" / "capture.policy.json").unlink()
    with pytest.raises(PolicyError):
        aftermath.policy_of(str(policy), str(state))
    policy.write_text("")
    assert aftermath.policy_of(str(policy), str(state)) == (default(), True)


# systemd-pstore's and the kernel's own


def panicked(place: Path, name: str = "dmesg-efi-179551440001001") -> Path:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"Panic#1 Part1\n<4>[    1.0] sysrq: Trigger a crash\n<0>[    1.000001] {PANIC}\n")
    return path


def test_pstore_records_are_copied_beside_the_dump_and_stay_where_they_are(rig: Rig) -> None:
    rig.run()
    dump = rig.dump(1)
    (dump / "dmesg.txt").unlink()
    record = panicked(rig.archive / "1795514400" / "001")
    (event,) = rig.run()
    copy = dump / "pstore" / record.name
    assert copy.read_bytes() == record.read_bytes()
    assert event.crash is not None
    assert event.crash.pstore == (str(copy),)
    assert event.message.endswith(f"; pstore records: 1 in {dump}/pstore")
    assert rig.run() == []


def test_a_panic_in_pstore_alone_is_a_crash_without_a_dump_and_is_kept_on_the_target(rig: Rig) -> None:
    rig.run()
    panicked(rig.kernel)
    rig.running()
    (event,) = rig.run()
    assert event.event == "crash-without-dump"
    assert event.reason == (
        "crashed at 2026-11-24 10:00:00 UTC, the capture kernel did not report; last stage unknown: it left none on "
        "any target"
    )
    assert PANIC in event.message
    (name,) = rig.names()
    assert name.endswith("-20261124-100000")
    assert (rig.targets[0] / name / "pstore" / "dmesg-efi-179551440001001").exists()
    assert rig.record().crashes[0].state is State.MISSING
    # systemd moves it meanwhile.
    (rig.kernel / "dmesg-efi-179551440001001").rename(rig.archive / "dmesg-efi-179551440001001")
    assert rig.run() == []


def test_where_no_target_is_there_the_records_are_told_where_they_lie(rig: Rig) -> None:
    rig.run()
    rig.targets[0].rmdir()
    record = panicked(rig.archive)
    (event,) = rig.run()
    assert event.message.endswith(f"pstore records: 1 at {record}")


def test_records_that_were_there_before_kdumpd_are_no_crash(rig: Rig) -> None:
    panicked(rig.archive)
    assert rig.run() == []
    assert rig.run() == []


def test_an_oops_that_the_machine_survived_is_no_crash(rig: Rig) -> None:
    rig.run()
    (rig.kernel / "dmesg-efi-179551440001001").write_text("Oops#1 Part1\n<1>[ 1.0] BUG: unable to handle\n")
    assert rig.run() == []


def test_hostile_records_cost_nothing(rig: Rig) -> None:
    rig.run()
    (rig.archive / "link").symlink_to("/etc/passwd")
    os.mkfifo(rig.archive / "pipe")
    with (rig.archive / "large").open("wb") as stream:
        stream.truncate(1 << 40)
    dump = rig.dump(1)
    assert [event.event for event in rig.run()] == ["crash-found"]
    assert not (dump / "pstore").exists()
