"""The stage file: what the next boot finds of a capture that died half way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kdumpd.capture import console, runner, stage
from kdumpd.capture.console import Console, StepLine
from tests.unit.capture.machines import Disks, crashed


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crashed(tmp_path_factory.mktemp("vmcore") / "vmcore")


def capture_dying_at(rig: Disks, text: str) -> None:
    """The whole capture, gone in an instant as it says that text, its children with it."""

    def write(line: bytes) -> None:
        if text in line.decode():
            os.killpg(0, signal.SIGKILL)

    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        started = console.uptime() - 4.0
        runner.capture(rig.machine, Console(write, lambda: console.uptime() - started))
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)


def left(rig: Disks) -> StepLine:
    (folder,) = rig.crash_folders()
    block = (folder / stage.NAME).read_bytes()
    assert len(block) == stage.SIZE
    found = stage.read(block)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("dies_at", "step", "text"),
    [
        ("mounted, ", "target", "mounted"),
        ("bytes saved", "dmesg", "begins"),
        ("dump: begins, ", "record", "begins"),
        ("pages chosen", "dump", " pages chosen"),
    ],
)
def test_a_capture_that_dies_leaves_the_step_that_it_died_in(
    tmp_path: Path, vmcore: str, dies_at: str, step: str, text: str
) -> None:
    rig = Disks(tmp_path, vmcore)
    capture_dying_at(rig, dies_at)
    found = left(rig)
    assert found.stage == step
    assert text in found.text
    assert 4.0 <= found.seconds < 60.0


def test_a_capture_that_came_to_its_end_leaves_none(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, {"retention": {"min_free": 1 << 60}}, disks=2)
    runner.capture(rig.machine, Console(lambda line: None))
    for disk in (0, 1):
        (folder,) = rig.crash_folders(disk)
        assert not (folder / stage.NAME).exists()


def test_a_stage_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    left = stage.Stage(Console(lambda line: None))
    left.leave("dump")
    left.begin(str(tmp_path / "none"))
    left.leave("dump")
    left.remove()
    (tmp_path / stage.NAME).symlink_to(tmp_path / "elsewhere")
    left.begin(str(tmp_path))
    left.leave("dump")
    assert not (tmp_path / "elsewhere").exists()


def test_a_stage_is_one_block_whatever_it_says(tmp_path: Path) -> None:
    left = stage.Stage(Console(lambda line: None))
    left.begin(str(tmp_path))
    left.leave("dump", "long " * 200)
    left.leave("dump", "short")
    block = (tmp_path / stage.NAME).read_bytes()
    assert len(block) == stage.SIZE
    assert block.endswith(b"short" + b" " * (stage.SIZE - 1 - len(block.rstrip())) + b"\n")


@pytest.mark.parametrize("block", [b"", b"\0" * 512, b"garbage\n", "kdumpd: +é".encode()])
def test_a_stage_that_makes_no_sense_is_none(block: bytes) -> None:
    assert stage.read(block) is None
