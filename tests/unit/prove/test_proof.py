"""Proofs of targets on a small machine made of files: what is good, what is not, and why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kdumpd.policy import load
from kdumpd.policy.model import Policy
from kdumpd.prove import asked, proof
from kdumpd.prove.proof import Proof, prove, record
from tests.unit.host.machine import FakeMachine

MEMINFO = "MemTotal: 1048576 kB\nMemFree: 524288 kB\nAnonPages: 262144 kB\nCached: 131072 kB\nHugePages_Total: 0\n"


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """Its root lies on sda1, where the tests' own folder is."""
    machine = FakeMachine(tmp_path / "machine")
    machine.write("proc/meminfo", MEMINFO)
    (tmp_path / "crash").mkdir()
    return machine


def policy(*paths: Path, min_free: str = "0") -> Policy:
    targets = ", ".join(f"{{path: {path}}}" for path in paths)
    return load.parse(f"targets: [{targets}]\nretention: {{min_free: {min_free}}}\n".encode())


def only(proofs: tuple[Proof, ...]) -> Proof:
    (one,) = proofs
    return one


def test_a_directory_that_can_be_written_is_proved_and_left_as_it_was(machine: FakeMachine, tmp_path: Path) -> None:
    found = only(prove(policy(tmp_path / "crash"), places=machine.places))
    assert (found.ok, found.why) == (True, "")
    assert found.free is not None
    assert found.line().startswith(f"target {tmp_path}/crash: written and read back, ")
    assert list((tmp_path / "crash").iterdir()) == []


def test_what_is_missing_is_proved_by_the_directory_above_it(machine: FakeMachine, tmp_path: Path) -> None:
    assert only(prove(policy(tmp_path / "crash/not/yet"), places=machine.places)).ok
    assert list((tmp_path / "crash").iterdir()) == []


def test_a_file_in_the_place_of_the_directory_is_an_error(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        found = only(prove(policy(path), places=machine.places))
        assert not found.ok
        assert "name a directory" in found.why


def test_a_target_that_no_image_can_reach_says_why_without_its_name_twice(machine: FakeMachine, tmp_path: Path) -> None:
    machine.mounts("27 1 0:50 / / rw - overlay overlay rw")
    found = only(prove(policy(tmp_path / "crash"), places=machine.places))
    assert found.why.startswith("lies on overlay (/): ")
    assert found.line().count(f"target {tmp_path}/crash: ") == 1
    assert found.free is None


def test_every_target_has_its_own_proof_in_the_order_of_the_policy(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    proofs = prove(policy(tmp_path / "file", tmp_path / "crash"), places=machine.places)
    assert [(found.path, found.ok) for found in proofs] == [(f"{tmp_path}/file", False), (f"{tmp_path}/crash", True)]


def test_too_little_room_for_the_policy_is_no_target(machine: FakeMachine, tmp_path: Path) -> None:
    found = only(prove(policy(tmp_path / "crash", min_free="900T"), places=machine.places))
    assert not found.ok
    assert found.why.endswith("no dump can be written; make room there, or lower min_free")
    assert found.free


def test_a_disk_that_does_not_answer_hangs_nobody(machine: FakeMachine, tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to never ends, as a look at a disk that hangs."""
    mountinfo = machine.base / "proc/self/mountinfo"
    mountinfo.unlink()
    os.mkfifo(mountinfo)
    found = only(prove(policy(tmp_path / "crash"), places=machine.places, deadline=0.3))
    assert not found.ok
    assert found.why.startswith("did not answer within 0 s: its disk hangs or is gone")


def test_an_earlier_proof_that_hangs_is_not_joined_by_another(machine: FakeMachine, tmp_path: Path) -> None:
    (machine.base / "run/kdumpd").mkdir(parents=True)
    lock = asked.lock(machine.places.run, f"proof below /: {tmp_path}/crash")
    held = asked.hold(lock)
    assert held is not None
    asked.left(lock)
    found = only(prove(policy(tmp_path / "crash"), places=machine.places))
    assert not found.ok
    assert found.why.startswith("did not answer an earlier look, which still hangs: its disk hangs or is gone")
    os.close(held)
    assert only(prove(policy(tmp_path / "crash"), places=machine.places)).ok


def test_links_in_a_circle_are_one_line_and_no_disk_is_blamed(machine: FakeMachine, tmp_path: Path) -> None:
    links = machine.base / "dev/disk/by-uuid"
    links.mkdir(parents=True)
    (links / "1234").symlink_to("1234")
    found = only(prove(policy(tmp_path / "crash"), places=machine.places))
    assert not found.ok
    assert found.why.startswith("cannot be looked at: Symlink loop from ")


def test_the_record_is_replaced_whole_and_for_root_alone(tmp_path: Path) -> None:
    proofs = (Proof("/var/crash", 1700000000, True, 5 << 30, ""), Proof("/srv", 1700000000, False, None, "no"))
    record(tmp_path, proofs)
    record(tmp_path, proofs[:1])
    path = tmp_path / "var/lib/kdumpd/targets.json"
    assert json.loads(path.read_text()) == {
        "version": proof.VERSION,
        "targets": [{"path": "/var/crash", "time": 1700000000, "ok": True, "free": 5 << 30, "why": ""}],
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
