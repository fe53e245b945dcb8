"""What goes is gone in one step and nothing else is touched; the verbs say so."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd.cli import list_dumps
from kdumpd.cli import prune as prune_verb
from kdumpd.cli.main import parser
from kdumpd.dumps import prune
from kdumpd.dumps.folder import Folder, shelf, shelves
from kdumpd.dumps.prune import HIDDEN, Pruned
from kdumpd.errors import DumpError, TargetError
from kdumpd.policy.model import Retention
from tests.unit.dumps.targets import Rig

KEEP_ONE = Retention(keep=1, max_size=None, min_free=0)
Verb = Callable[..., int]


def pruned(rig: Rig, retention: Retention = KEEP_ONE) -> Pruned:
    found, _ = shelves(tuple(str(target) for target in rig.targets))
    known = rig.record()
    return prune.carry_out(prune.plan(found, known, retention), found, known, str(rig.state))[0]


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
    pruned(rig)
    assert rig.names() == ["web1-20261124-100001"]


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


# The verbs


@pytest.fixture
def verb(rig: Rig, tmp_path: Path) -> Verb:
    """Runs a verb under a policy of this target, which keeps one dump; the state is the rig's."""
    policy = tmp_path / "kdumpd.yaml"
    policy.write_text(f"targets: [{{path: {rig.targets[0]}}}]\nretention: {{keep: 1, min_free: 0}}\n")
    runs: dict[str, Callable[[argparse.Namespace, str], int]] = {"list": list_dumps.run, "prune": prune_verb.run}

    def run(name: str, *arguments: str) -> int:
        options = parser().parse_args([name, "--policy", str(policy), *arguments])
        return runs[name](options, str(rig.state))

    return run


def test_list_prints_a_dump_in_two_lines_for_a_person(rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    dump = rig.dump(1)
    rig.run()
    assert verb("list") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2026-11-24 10:00:01 UTC  complete ")
    assert first.endswith(f" {dump}")
    assert second == "    web1, 6.1.0: Kernel panic - not syncing: sysrq triggered crash"


def test_list_of_nothing_says_so(rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("list") == 0
    assert capsys.readouterr().out == f"no dumps on {rig.targets[0]}\n"


def test_list_tells_what_it_cannot_read_after_what_it_can(
    rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.dump(1)
    (rig.state / "crashes.json").write_text("{")
    assert verb("list") == 1
    told = capsys.readouterr()
    assert "unverified" in told.out
    assert told.err.startswith(f"kdumpd list: {rig.state}/crashes.json: is damaged")
    assert told.err.count("\n") == 1


def test_prune_says_what_would_go_and_then_takes_it(rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    first = rig.dump(1)
    rig.dump(2)
    rig.run()
    assert verb("prune", "--dry-run") == 0
    assert capsys.readouterr().out.startswith(f"would remove {first} (")
    assert first.exists()
    assert verb("prune") == 0
    assert capsys.readouterr().out.startswith(f"removed {first} (")
    assert not first.exists()
    assert rig.record().crashes[0].removed == "retention.keep: 1: there are 1 newer ones"
    assert verb("prune", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "dry_run": False,
        "removed": [],
        "failed": [],
        "remarks": [],
        "problems": [],
    }


def test_prune_does_nothing_on_a_record_that_is_damaged(rig: Rig, verb: Verb) -> None:
    rig.dump(1), rig.dump(2)
    rig.run()
    (rig.state / "crashes.json").write_text("[]")
    with pytest.raises(DumpError, match="is damaged"):
        verb("prune")
    assert len(rig.names()) == 2


def test_the_record_is_for_root_alone(rig: Rig) -> None:
    rig.dump(1)
    rig.run()
    assert stat.S_IMODE((rig.state / "crashes.json").stat().st_mode) == 0o600
