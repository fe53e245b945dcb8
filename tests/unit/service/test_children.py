"""Children end at a stop, and one that nothing ends does not keep the service."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pytest

from kdumpd.service.actions import Work
from kdumpd.service.children import Child, environment, finish
from tests.unit.service.scarce import scarce


class Stuck(Child):
    """A simulated child in the kernel's uninterruptible sleep: no signal reaches it."""

    def kill(self, hard: bool) -> None:
        pass


def shell(script: str, kind: type[Child] = Child) -> Child:
    return kind(Work.APPLY, ("/bin/sh", "-c", script), environment())


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").is_dir()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_those_that_end_are_not_waited_for_any_longer_and_reaped() -> None:
    children = [shell("exit 3"), shell("exit 0")]
    begun = time.monotonic()
    assert finish(children, 20.0, 20.0) == []
    assert time.monotonic() - begun < 10
    assert not any(exists(child.pid) for child in children)


def test_who_does_not_want_to_end_is_killed() -> None:
    child = shell("trap '' INT; echo; while :; do sleep 1; done")
    select.select([child.output.descriptor], [], [], 20)
    child.kill(hard=False)
    assert finish([child], 0.2, 20.0) == []
    assert not exists(child.pid)


def test_who_cannot_end_is_left_behind_and_the_others_are_reaped() -> None:
    stuck, other = shell("exec sleep 60", Stuck), shell("exec sleep 60")
    begun = time.monotonic()
    try:
        assert finish([stuck, other], 0.1, 0.5) == [stuck]
        assert time.monotonic() - begun < 5
        assert exists(stuck.pid)
        assert not exists(other.pid)
    finally:
        os.kill(stuck.pid, signal.SIGKILL)
        stuck.reap()


@pytest.mark.parametrize("free", range(5))
def test_a_child_that_cannot_be_watched_is_none(free: int) -> None:
    open_before = descriptors()
    with scarce(free), pytest.raises(OSError, match="Too many open files"):
        shell("exec sleep 60")
    assert descriptors() == open_before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
