"""Where a crash's directory is now: there, renamed, or gone."""

from __future__ import annotations

import shutil
from pathlib import Path

from kdumpd.dumps.whereabouts import Found, find
from kdumpd.status import records
from tests.unit.dumps.targets import Rig


def found(rig: Rig) -> Found:
    rig.run()
    (crash,) = rig.record().crashes
    assert crash.path is not None
    return find(crash.path, crash.identity)


def test_a_directory_is_found_where_it_was_left_and_under_another_name(rig: Rig) -> None:
    dump = rig.dump(1)
    assert found(rig) == Found(str(dump), dump=True)
    identity = rig.record().crashes[0].identity
    kept = dump.rename(dump.with_name("keep-this"))
    assert find(str(dump), identity) == Found(str(kept), dump=True)
    (kept / "vmcore").unlink()
    assert find(str(dump), identity) == Found(str(kept), dump=False)


def test_a_directory_that_is_gone_is_gone_and_another_of_its_name_is_not_taken_for_it(rig: Rig) -> None:
    dump = rig.dump(1)
    identity = found(rig) and rig.record().crashes[0].identity
    shutil.rmtree(dump)
    assert find(str(dump), identity).path is None
    (rig.targets[0] / "other").mkdir()  # takes the inode where that is given again at once
    rig.dump(1)
    assert find(str(dump), identity).path is None
    shutil.rmtree(rig.targets[0])
    assert find(str(dump), identity).path is None


def test_what_cannot_be_looked_at_is_not_called_gone(rig: Rig) -> None:
    dump = rig.dump(1)
    identity = found(rig) and rig.record().crashes[0].identity
    dump.rename(dump.with_name("away"))
    dump.symlink_to(dump)
    place = find(str(dump / "x"), identity)
    assert place.path is not None
    assert "cannot be looked at" in place.problem


def test_status_reads_it_for_the_last_crash(rig: Rig, tmp_path: Path) -> None:
    dump = rig.dump(1)
    rig.run()
    kept = tmp_path / "root/var/lib"
    kept.mkdir(parents=True)
    (kept / "kdumpd").symlink_to(rig.state)
    assert records.read(tmp_path / "root", tmp_path / "run", tmp_path / "proc").dump == Found(str(dump), dump=True)
    shutil.rmtree(dump)
    assert records.read(tmp_path / "root", tmp_path / "run", tmp_path / "proc").dump == Found(None, dump=False)
