"""A search on a machine one of whose targets has a disk that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
