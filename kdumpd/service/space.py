"""What directories lie on, asked of processes apart: a disk or a server that does not answer takes its own along alone.

No thread: a thread that waits for a disk keeps its process from ending, and with it a stop and a restart. Called by
`service.look`. May import the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

DEADLINE = 2.0  # seconds that a look waits for all its directories at once

_LARGEST = 64  # bytes of an answer: two numbers


class Space(NamedTuple):
    """What a directory is on, or will be: the number of its device and the free bytes; 0 where that cannot be seen."""

    device: int
    free: int


#: Of a directory whose process gave no answer in time.
SILENT = Space(-1, 0)


def measure(path: str) -> Space:
    """That of the nearest directory that there is. Waits for the disk."""
    try:
        found = os.statvfs(path)
        return Space(os.stat(path).st_dev, found.f_bavail * found.f_frsize)
    except FileNotFoundError:
        above = os.path.dirname(path)
        return measure(above) if above != path else Space(0, 0)
    except OSError:
        return Space(0, 0)


class _Asked(NamedTuple):
    """A process that was asked about one directory; its descriptor is readable when it has ended."""

    pid: int
    descriptor: int
    pipe: int

    def fileno(self) -> int:
        return self.descriptor


class Spaces:
    """Asks about directories; one that does not answer is not asked again before its process has ended."""

    def __init__(self, measured: Callable[[str], Space] = measure, deadline: float = DEADLINE) -> None:
        self._measured, self._deadline = measured, deadline
        self._asked: dict[str, _Asked] = {}

    def ask(self, paths: Iterable[str]) -> dict[str, Space]:
        """What each path is on, after `deadline` seconds at the latest, and at once where only the silent are left."""
        paths = tuple(dict.fromkeys(paths))
        self._ended(0.0)  # An answer that came late is old: its disk is asked anew.
        begun = {path: _start(self._measured, path) for path in paths if path not in self._asked}
        answers = {path: Space(0, 0) for path, asked in begun.items() if asked is None}
        waiting = {path: asked for path, asked in begun.items() if asked is not None}
        self._asked |= waiting
        until = time.monotonic() + self._deadline
        while waiting.keys() & self._asked.keys() and (left := until - time.monotonic()) > 0:
            answers |= self._ended(left)
        return {path: answers.get(path, SILENT) for path in paths}

    def _ended(self, seconds: float) -> dict[str, Space]:
        """The answers of the processes that have ended; the first is waited for."""
        if not self._asked:
            return {}
        ready, _, _ = select.select([*self._asked.values()], [], [], seconds)
        return {path: _answer(self._asked.pop(path)) for path, asked in [*self._asked.items()] if asked in ready}


def _start(measured: Callable[[str], Space], path: str) -> _Asked | None:
    """A process that measures; None where none can be had."""
    try:
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    pid = 0
    try:
        pid = os.fork()
        if pid == 0:
            _work(measured, path, theirs)
        return _Asked(pid, os.pidfd_open(pid), ours)
    except OSError:
        os.close(ours)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return None
    finally:
        os.close(theirs)


def _work(measured: Callable[[str], Space], path: str, pipe: int) -> NoReturn:
    try:
        # Signals write to the service's pipe, and what this process keeps open would outlive the service.
        signal.set_wakeup_fd(-1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(pipe, 3)
        for standard in range(3):
            os.dup2(nowhere, standard)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.write(3, "{} {}".format(*measured(path)).encode())
    finally:
        os._exit(0)


def _answer(asked: _Asked) -> Space:
    """That of a process that has ended; one that died said nothing."""
    os.waitpid(asked.pid, 0)
    try:
        device, free = os.read(asked.pipe, _LARGEST).split()
        return Space(int(device), int(free))
    except ValueError:
        return Space(0, 0)
    finally:
        os.close(asked.descriptor)
        os.close(asked.pipe)
