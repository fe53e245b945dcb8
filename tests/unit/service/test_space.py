"""What directories lie on, and disks that do not answer.

Those are simulated: the measuring opens a pipe that nobody writes to, which sleeps in the kernel for as long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdumpd.service.space import SILENT, Space, Spaces, measure
from tests.unit.service.scarce import scarce

ANSWER = Space(7, 1 << 40)


class Disk:
    """A simulated disk, which answers about /silent only after `wake`."""

    def __init__(self, pipe: Path) -> None:
        self._pipe, self._count = pipe, pipe.with_name("count")
        self._count.touch()
        os.mkfifo(pipe)
        self.spaces = Spaces(self.measure, 0.3)

    def measure(self, path: str) -> Space:
        with self._count.open("a") as count:
            count.write(f"{path}\n")
        if path == "/silent" and self._pipe.exists():
            self._pipe.read_bytes()
        return ANSWER

    def wake(self) -> None:
        if self._pipe.exists():
            with self._pipe.open("wb"):
                self._pipe.unlink()

    @property
    def asked(self) -> list[str]:
        return sorted(self._count.read_text().split())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "pipe")
    yield disk
    disk.wake()
    gone(disk.spaces)


def children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def gone(spaces: Spaces) -> None:
    """Returns when no process is left of what was asked."""
    until = time.monotonic() + 10
    while children():
        spaces.ask([])
        assert time.monotonic() < until


def test_a_directory_that_is_not_there_yet_lies_where_the_nearest_one_does(tmp_path: Path) -> None:
    space = measure(f"{tmp_path}/not/there")
    assert space.device == tmp_path.stat().st_dev
    assert space.free > 0


def test_what_cannot_be_looked_at_is_on_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert measure(f"{tmp_path}/file/below") == (0, 0)


def test_the_silent_delays_the_others_by_nothing_and_the_look_until_the_deadline(disk: Disk) -> None:
    begun = time.monotonic()
    assert disk.spaces.ask(["/silent", "/well"]) == {"/silent": SILENT, "/well": ANSWER}
    assert 0.3 <= time.monotonic() - begun < 2


def test_the_silent_is_asked_once_and_not_waited_for_again(disk: Disk) -> None:
    spaces = disk.spaces
    spaces.ask(["/silent"])
    begun = time.monotonic()
    for _ in range(5):
        assert spaces.ask(["/silent"]) == {"/silent": SILENT}
    assert time.monotonic() - begun < 0.3
    assert disk.asked == ["/silent"]
    assert len(children()) == 1


def test_who_answers_again_is_asked_again_and_no_process_is_left(disk: Disk) -> None:
    spaces = disk.spaces
    assert spaces.ask(["/silent"]) == {"/silent": SILENT}
    disk.wake()
    until = time.monotonic() + 10
    while spaces.ask(["/silent"]) != {"/silent": ANSWER}:
        assert time.monotonic() < until
    assert children() == []


def test_a_silent_target_that_nobody_asks_for_any_more_is_reaped(disk: Disk) -> None:
    spaces = disk.spaces
    spaces.ask(["/silent"])
    disk.wake()
    gone(spaces)


def test_a_process_that_dies_has_seen_nothing() -> None:
    def die(path: str) -> Space:
        os._exit(3)

    assert Spaces(die).ask(["/a"]) == {"/a": (0, 0)}
    assert children() == []


def test_what_hangs_keeps_nothing_of_the_service_open() -> None:
    def opened(path: str) -> Space:
        links = Path("/proc/self/fd")
        return Space(len(list(links.iterdir())), len({(links / str(number)).readlink() for number in range(3)}))

    # Three times nowhere, the pipe, and the directory that is read.
    assert Spaces(opened).ask(["/a"]) == {"/a": (5, 1)}


@pytest.mark.parametrize("free", range(3))
def test_without_a_descriptor_nothing_is_seen_and_nothing_is_left(free: int) -> None:
    spaces = Spaces(lambda path: ANSWER)
    with scarce(free):
        assert spaces.ask(["/a"]) == {"/a": (0, 0)}
    assert children() == []
    assert spaces.ask(["/a"]) == {"/a": ANSWER}
