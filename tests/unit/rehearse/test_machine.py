"""A machine's life, with a shell script that plays QEMU and its guest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd.rehearse.machine import Life, live
from kdumpd.rehearse.scenario import Patience
from kdumpd.rehearse.timeline import Event, Phase
from kdumpd.rehearse.vm import X86_64, Machine

BOOT = "echo '[    0.0] Linux version 6.1.0-56-amd64'"
Play = Callable[[str, Patience], Life]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """The life of a machine whose QEMU is this shell script."""

    def run(script: str, patience: Patience) -> Life:
        program = tmp_path / "fake-qemu"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        fake = X86_64._replace(program="fake-qemu", package="fake-package")
        told: list[Event] = []
        life = live(Machine(Path("k"), Path("i"), "", architecture=fake), patience, told.append, tmp_path, False)
        assert told == life.timeline.events
        return life

    return run


def test_a_machine_that_ends_as_it_should_has_no_failure(play: Play, tmp_path: Path) -> None:
    life = play(f"{BOOT}; {BOOT}; echo '[    9.1] reboot: Restarting system'", Patience())
    assert (life.failure, life.timeline.phase) == ("", Phase.ENDED)
    assert len((tmp_path / "console.log").read_text().splitlines()) == 3


def test_a_silent_console_is_a_hang_and_the_stage_is_named(play: Play) -> None:
    life = play(f"{BOOT}; sleep 60", Patience(silence=1.0))
    assert "the console fell silent for" in life.failure
    assert "first kernel boots" in life.failure


def test_a_console_that_never_stops_ends_with_the_patience(play: Play) -> None:
    life = play(f"{BOOT}; while sleep 0.1; do echo again; done", Patience(silence=5.0, whole=1.5))
    assert "not at its end after 2 s" in life.failure


def test_a_machine_that_vanishes_says_what_qemu_said(play: Play) -> None:
    life = play(f"{BOOT}; echo 'out of luck' >&2; exit 1", Patience())
    assert "ended without a word (out of luck)" in life.failure


def test_a_first_kernel_that_cannot_be_made_ready_is_stopped_at_once(play: Play) -> None:
    line = '{"stage": "failed", "text": "no reservation"}'
    life = play(f"{BOOT}; echo 'kdumpd-guest: {line}'; sleep 60", Patience())
    assert life.failure == "the first kernel could not be made ready: no reservation"


def test_a_halted_machine_is_not_waited_for(play: Play) -> None:
    life = play(f"{BOOT}; {BOOT}; echo '[    9.1] reboot: System halted'; sleep 60", Patience())
    assert (life.failure, life.timeline.ending) == ("", "System halted")
