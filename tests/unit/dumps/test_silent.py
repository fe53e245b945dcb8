"""A search on a machine one of whose disks does not answer, gives errors, or takes no writing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdumpd.dumps import aftermath, crashes
from tests.unit.dumps.targets import EVERYTHING, Rig


def test_a_dump_on_another_target_is_told_recorded_and_pruned(
    tmp_path: Path, good: Path, hang: Callable[[Path], None]
) -> None:
    rig = Rig(tmp_path, good, targets=2)
    path = rig.dump(1, target=1)
    rig.running()
    hang(rig.targets[0])
    failed, found = rig.run(EVERYTHING)
    assert failed.event == "target-failed"
    assert failed.message.startswith(f"dumps there cannot be looked at: {rig.targets[0]}: did not answer within ")
    assert found.event == "crash-found"
    (crash,) = rig.record().crashes
    assert (crash.path, crash.ended) == (str(path), "boot-1")


def test_a_crash_of_which_the_others_hold_nothing_may_lie_there(
    tmp_path: Path, good: Path, hang: Callable[[Path], None]
) -> None:
    rig = Rig(tmp_path, good, targets=2)
    rig.running()
    hang(rig.targets[0])
    failed, missing = rig.run(EVERYTHING)
    assert (failed.event, missing.event) == ("target-failed", "crash-without-dump")
    assert missing.message.endswith(f"; not there to be looked at: {rig.targets[0]}")


def test_a_new_directory_that_cannot_be_read_now_is_named_with_the_missing_crash(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.dump(1)
    rig.run()
    path = rig.dump(2)
    rig.boot("boot-3")
    rig.running("boot-2", since=1795514402.0)
    opens = os.open

    def failing(name: Any, *arguments: Any, **options: Any) -> int:
        if name == path.name:
            raise OSError(errno.EIO, "Input/output error")
        return opens(name, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", failing)
        (missing,) = rig.run()
    assert missing.event == "crash-without-dump"
    assert missing.message.endswith(f"; there, and cannot be read now: {path}")
    (found,) = rig.run()
    assert found.event == "crash-found"
    assert [crash.state for crash in rig.record().crashes] == ["verified", "verified"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_search_whose_record_could_not_be_written_has_failed(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, fails: bool
) -> None:
    policy = tmp_path / "kdumpd.yaml"
    policy.write_text(f"targets: [{{path: {rig.targets[0]}}}]\n")
    rig.dump(1)

    def failing(known: crashes.Crashes, folder: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails:
        monkeypatch.setattr(crashes, "write", failing)
    assert aftermath.main(["--policy", str(policy)], rig.places) == int(fails)
    said = capsys.readouterr()
    assert '"event": "crash-found"' in said.out
    line = f"{rig.state}/crashes.json: cannot be written: No space left on device; make room there\n"
    assert said.err == (line if fails else "")
