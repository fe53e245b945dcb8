"""The children that do the work: started, listened to line by line, ended with all that they started.

Called by `service.daemon` alone. May import `service.actions` and the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from kdumpd.service.actions import Work

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST = 1 << 20  # bytes kept of what a child writes

_PYTHON = (sys.executable, "-I", "-m")
COMMANDS: dict[Work, tuple[str, ...]] = {
    Work.STATUS: (*_PYTHON, "kdumpd", "status", "--json"),
    Work.APPLY: (*_PYTHON, "kdumpd", "apply"),
    Work.AFTERMATH: (*_PYTHON, "kdumpd.dumps.aftermath"),
}


def environment() -> dict[str, str]:
    """What children get of the environment: nothing that is between systemd and the service."""
    return {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/root"), "PYTHONUNBUFFERED": "1"}


class _Text:
    """One end of a pipe that a child writes to."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._text = bytearray()
        self._told = 0

    def drain(self) -> bool:
        """All that has been written is taken, what exceeds the bound is dropped; whether that was the end."""
        with suppress(BlockingIOError):
            while data := os.read(self.descriptor, 1 << 16):
                self._text += data[: max(0, _MOST - len(self._text))]
            self.ended = True
        return self.ended

    def lines(self) -> Iterator[str]:
        """The whole lines that were not told yet."""
        while (end := self._text.find(b"\n", self._told)) >= 0:
            line, self._told = self._text[self._told : end], end + 1
            yield line.decode(errors="replace")

    def all(self) -> str:
        return self._text.decode(errors="replace")


def _watched(pid: int) -> int:
    """A descriptor that is readable when a child has ended; without one there is no child either."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


class Child:
    """A process in a session of its own; `fileno` is readable when it has ended."""

    def __init__(self, work: Work, command: tuple[str, ...], env: Mapping[str, str]) -> None:
        """Raises OSError when it cannot be started."""
        self.work = work
        ends: list[int] = []
        try:
            for _ in range(2):
                ends += os.pipe2(os.O_CLOEXEC)
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, ends[1], 1),
                (os.POSIX_SPAWN_DUP2, ends[3], 2),
            ]
            self.pid = os.posix_spawn(
                command[0],
                command,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
            self._descriptor = _watched(self.pid)
        except OSError:
            for end in ends:
                os.close(end)
            raise
        os.close(ends[1])
        os.close(ends[3])
        os.set_blocking(ends[0], False)
        os.set_blocking(ends[2], False)
        self.output, self.errors = _Text(ends[0]), _Text(ends[2])

    def fileno(self) -> int:
        return self._descriptor

    def kill(self, hard: bool) -> None:
        """Asked by SIGINT, a verb ends what it has started in sessions of their own; `hard` leaves no choice."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL if hard else signal.SIGINT)

    def reap(self) -> int:
        """The exit code (negative: the signal) of the child, which has ended; nothing of its group goes on."""
        self.kill(hard=True)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.output.drain()
        self.errors.drain()
        for descriptor in (self._descriptor, self.output.descriptor, self.errors.descriptor):
            os.close(descriptor)
        return code


def finish(children: Sequence[Child], asked: float, killed: float) -> list[Child]:
    """Children that were asked to end are reaped as they do: `asked` seconds are theirs, then they are killed.

    Returns those that have not ended `killed` seconds after that: what waits for a disk that does not answer no signal
    ends, and to wait for it would be to wait as long as it does.
    """
    left = _reaped(children, asked)
    for child in left:
        child.kill(hard=True)
    return _reaped(left, killed)


def _reaped(children: Sequence[Child], seconds: float) -> list[Child]:
    """Those that have not ended in time."""
    until, left = time.monotonic() + seconds, list(children)
    while left and (wait := until - time.monotonic()) > 0:
        ended, _, _ = select.select(left, [], [], wait)
        left = [child for child in left if child not in ended]
        for child in ended:
            child.reap()
    return left
