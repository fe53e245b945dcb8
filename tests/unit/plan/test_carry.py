"""A plan carried out: what is on record afterwards, whichever way it went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.errors import LoadError
from kdumpd.host import facts
from kdumpd.loader import contents, kexec
from kdumpd.loader.contents import Piece
from kdumpd.loader.kexec import Call, Loaded
from kdumpd.plan import carry, nextboot, state
from kdumpd.plan.decide import decide
from kdumpd.plan.situation import LoadedRecord, Situation
from kdumpd.steps.load import LoadCrashKernel
from tests.unit.plan.test_decide import ARMED, FACTS, LOADED

PIECES = (Piece("image", 4096, 5, "aa"), Piece("kernel", 8192, 5, "bb"), Piece("kernel", 16384, 5, "bb"))
UNLOADED = replace(ARMED, facts=replace(FACTS, loaded=False), nodes={"/var/crash": "/dev/vda1"})


class Rig:
    """A root in which loads succeed, or fail with `refusal`; `said` is what carry_out told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.image = root / "capture.img"
        self.image.write_bytes(b"image")
        self.refusal, self.left = "", False
        self.said: list[str] = []
        self.looked: list[str] = []
        monkeypatch.setattr(kexec, "load", self._load)
        monkeypatch.setattr(contents, "of_load", self._look)
        monkeypatch.setattr(facts, "crash_state", lambda sys: (True, self.left, 0))
        monkeypatch.setattr(nextboot, "keep", lambda situation, root, say: None)
        monkeypatch.setattr(state, "disarmed_file", lambda: root / "disarmed")

    def _load(self, step: LoadCrashKernel) -> Loaded:
        if self.refusal:
            raise LoadError(self.refusal)
        return Loaded(Call.FILE, "")

    def _look(self, vmlinuz: Path, image: Path, line: str, ranges: object) -> tuple[Piece, ...]:
        self.looked.append(line)
        return PIECES

    def carry(self, situation: Situation) -> LoadedRecord | None:
        """The record after the plan of this situation was carried out."""
        here = replace(situation, image=self.image)
        carry.carry_out(decide(here), here, self.root, self.said.append)
        return state.read_loaded(self.root)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_a_load_is_on_record_with_where_it_lies(rig: Rig) -> None:
    record = rig.carry(UNLOADED)
    assert record is not None
    assert (record.boot_id, record.pieces_boot_id, record.pieces) == ("boot-1", "boot-1", PIECES)
    assert (record.release, record.command_line, record.reservation) == ("6.1", "irqpoll", 192 << 20)
    assert record.image_sha256 == state.sha256_of(rig.image)
    assert record.nodes == {"/var/crash": "/dev/vda1"}
    assert rig.said == [
        "loaded kernel 6.1 by kexec_file_load; the kernel confirms it, and image and kernel lie in the reservation"
    ]


def test_what_was_disarmed_is_not_any_more(rig: Rig) -> None:
    (rig.root / "disarmed").touch()
    rig.carry(UNLOADED)
    assert not (rig.root / "disarmed").exists()


def test_a_load_that_fails_is_nobody_elses_doing(rig: Rig) -> None:
    state.record(rig.root, replace(LOADED, pieces=PIECES, nodes={"/var/crash": "/dev/sda1"}))
    rig.refusal = "no room"
    with pytest.raises(LoadError, match="no room"):
        rig.carry(UNLOADED)
    record = state.read_loaded(rig.root)
    assert record is not None
    assert (record.boot_id, record.pieces, record.nodes) == ("", (), {"/var/crash": "/dev/sda1"})


def test_a_load_that_fails_and_leaves_what_there_was_leaves_its_record(rig: Rig) -> None:
    state.record(rig.root, LOADED)
    rig.refusal, rig.left = "forbidden", True
    with pytest.raises(LoadError, match="forbidden"):
        rig.carry(UNLOADED)
    assert state.read_loaded(rig.root) == LOADED


def test_what_was_loaded_before_the_file_systems_is_looked_for_once(rig: Rig) -> None:
    early = replace(LOADED, pieces=(Piece("image", 1, 2, "of another boot"),), pieces_boot_id="boot-0")
    state.record(rig.root, early)
    record = rig.carry(ARMED)
    assert record is not None
    assert (record.pieces, record.pieces_boot_id, rig.looked) == (PIECES, "boot-1", ["irqpoll"])
    rig.carry(ARMED)
    assert rig.looked == ["irqpoll"]


def test_a_load_whose_record_cannot_be_written_is_told_and_no_reason_to_load_again(rig: Rig) -> None:
    (state.loaded_file(rig.root) / "x").mkdir(parents=True)
    record = rig.carry(UNLOADED)
    assert record is not None
    assert len(rig.said) == 2
    assert rig.said[1].startswith(f"{state.loaded_file(rig.root)}: cannot be written: Is a directory; ")
    known = replace(ARMED.state, loaded=replace(record, image_sha256=ARMED.state.image_sha256))
    assert decide(replace(ARMED, state=known)).steps == ()
