"""What goes is gone in one step, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from kdumpd.dumps import prune
from kdumpd.dumps.folder import Folder, shelf, shelves
from kdumpd.dumps.prune import HIDDEN, Pruned
from kdumpd.errors import TargetError
from kdumpd.policy.model import Retention
from tests.unit.dumps.targets import Rig

KEEP_ONE = Retention(keep=1, max_size=None, min_free=0)


def pruned(rig: Rig, retention: Retention = KEEP_ONE) -> Pruned:
    found, _ = shelves(tuple(str(target) for target in rig.targets))
    known = rig.record()
    return prune.carry_out(prune.plan(found, known, retention, "web1"), found, known, "web1")[0]


def only(rig: Rig) -> Folder:
    found = shelf(str(rig.targets[0]))
    assert found is not None
    (folder,) = found.folders
    return folder


def test_what_goes_is_gone_with_all_that_is_in_it(rig: Rig) -> None:
    first, second = rig.dump(1), rig.dump(2)
    (first / "pstore" / "below").mkdir(parents=True)
    (first / "pstore" / "below" / "record").write_text("")
    rig.run()
    assert [removal.path for removal in pruned(rig).removed] == [str(first)]
    assert rig.names() == [second.name]


def test_links_are_removed_and_never_followed(rig: Rig, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    first = rig.dump(1)
    (first / "file").symlink_to(precious / "file")
    (first / "folder").symlink_to(precious)
    rig.dump(2)
    rig.run()
    assert len(pruned(rig).removed) == 1
    assert (precious / "file").read_text() == "precious"


def test_a_dump_that_the_service_has_not_looked_at_stays(rig: Rig) -> None:
    rig.run()
    rig.dump(1), rig.dump(2), rig.dump(3)
    assert pruned(rig).removed == ()


def test_the_newest_complete_dump_stays_after_failed_ones(rig: Rig) -> None:
    whole = rig.dump(1)
    rig.dead(2), rig.dead(3)
    newest = rig.dead(4)
    rig.run()
    assert len(pruned(rig).removed) == 2
    assert rig.names() == [whole.name, newest.name]


def test_what_a_power_cut_left_hidden_goes_next_time(rig: Rig) -> None:
    rig.dump(1)
    rig.run()
    hidden = rig.targets[0] / f"{HIDDEN}web1-20261124-090000"
    hidden.mkdir()
    (hidden / "vmcore").write_text("half")
    other = rig.targets[0] / f"{HIDDEN}web1-1-20261124-090000"
    other.mkdir()
    pruned(rig)
    assert rig.names() == [other.name, "web1-20261124-100001"]


def test_a_power_cut_while_a_dump_is_taken_apart_leaves_none_under_its_name(rig: Rig) -> None:
    first = rig.dump(1)
    held = os.open(first, os.O_RDONLY)
    try:
        (first / "deep").mkdir()
        process = os.fork()
        if process == 0:
            os.rmdir = lambda *arguments, **options: os._exit(9)
            prune.remove(only(rig))
            os._exit(0)
        assert os.waitpid(process, 0)[1] == 9 << 8
    finally:
        os.close(held)
    assert rig.names() == [f"{HIDDEN}{first.name}"]
    rig.run()
    assert pruned(rig).failed == ()
    assert rig.names() == []


def test_a_directory_that_was_replaced_meanwhile_stays(rig: Rig) -> None:
    first = rig.dump(1)
    looked_at = only(rig)
    shutil.rmtree(first)
    rig.dump(1)
    with pytest.raises(TargetError, match="is not the dump that was looked at any more; it stays"):
        prune.remove(looked_at)
    first.rename(first.with_name("moved"))
    first.symlink_to(first.with_name("moved"))
    with pytest.raises(TargetError, match="cannot be removed"):
        prune.remove(looked_at)
    assert (first / "vmcore").exists()


def test_the_record_is_for_root_alone(rig: Rig) -> None:
    rig.dump(1)
    rig.run()
    assert stat.S_IMODE((rig.state / "crashes.json").stat().st_mode) == 0o600
