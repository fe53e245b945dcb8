"""`kdumpd list` and `kdumpd prune`: what they print for people, and for programs by their JSON Schemas."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from kdumpd.cli import list_dumps, prune
from kdumpd.cli.main import parser
from kdumpd.errors import DumpError
from tests.unit.dumps.targets import Rig

Verb = Callable[..., int]
SCHEMAS = Path(__file__).parents[3] / "config" / "json"


@pytest.fixture
def verb(rig: Rig, tmp_path: Path) -> Verb:
    """Runs a verb under a policy of this target, which keeps one dump; the state is the rig's."""
    policy = tmp_path / "kdumpd.yaml"
    policy.write_text(f"targets: [{{path: {rig.targets[0]}}}]\nretention: {{keep: 1, min_free: 0}}\n")
    runs: dict[str, Callable[[argparse.Namespace, str, str], int]] = {"list": list_dumps.run, "prune": prune.run}

    def run(name: str, *arguments: str) -> int:
        options = parser().parse_args([name, "--policy", str(policy), *arguments])
        return runs[name](options, str(rig.state), str(rig.proc))

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
    assert rig.record().crashes[0].removed == "retention.keep: 1: 1 newer one is there"
    assert verb("prune", "--json") == 0
    assert by_schema("prune", capsys.readouterr().out) == {
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


def by_schema(name: str, text: str) -> Any:
    """The document, valid by its schema."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    document = json.loads(text)
    Draft7Validator(schema).validate(document)
    return document


def test_list_prints_every_sort_of_dump_by_its_schema(rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    rig.dump(1)
    (rig.dump(2) / "vmcore").write_bytes(b"broken")
    rig.run()
    rig.dump(3), rig.dead(4)
    (rig.targets[0] / "202611241000").mkdir()
    (rig.targets[0] / "web1-20261124-250000").mkdir(mode=0o700)
    assert verb("list", "--json") == 0
    document = by_schema("list", capsys.readouterr().out)
    states = [dump["state"] for dump in document["dumps"]]
    assert sorted(states) == ["complete", "damaged", "foreign", "incomplete", "incomplete", "unverified"]
    assert [target["path"] for target in document["targets"]] == [str(rig.targets[0])]


def test_list_names_a_target_that_it_cannot_read_by_its_schema(
    rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.targets[0].rmdir()
    rig.targets[0].write_text("")
    assert verb("list", "--json") == 1
    assert by_schema("list", capsys.readouterr().out)["problems"] == [
        f"{rig.targets[0]}: is no directory; name another one in the policy"
    ]


@pytest.mark.parametrize("name", ["list", "prune"])
def test_a_target_whose_disk_hangs_is_a_problem_by_the_schema(
    rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str], hang: Callable[[Path], None], name: str
) -> None:
    rig.dump(1)
    hang(rig.targets[0])
    assert verb(name, "--json") == 1
    (problem,) = by_schema(name, capsys.readouterr().out)["problems"]
    assert problem.startswith(f"{rig.targets[0]}: did not answer within ")


def test_prune_prints_what_goes_by_its_schema(rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    first = rig.dump(1)
    rig.dump(2)
    rig.run()
    assert verb("prune", "--dry-run", "--json") == 0
    document = by_schema("prune", capsys.readouterr().out)
    assert document["dry_run"] is True
    assert [(removal["path"], removal["reason"]) for removal in document["removed"]] == [
        (str(first), "retention.keep: 1: 1 newer one is there")
    ]


def test_a_name_that_anybody_gave_a_directory_neither_stops_the_list_nor_moves_a_cursor(
    rig: Rig, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.run()
    for name in (b"\xff-20240101-120000", b"\x1b[2J-20240101-120000"):
        place = rig.targets[0] / os.fsdecode(name)
        place.mkdir()
        place.chmod(0o777)
    assert verb("list") == 0
    printed = capsys.readouterr().out
    assert "/?-20240101-120000" in printed
    assert "/?[2J-20240101-120000" in printed
    assert printed.isascii()
