"""Work that may hang for ever, done by processes apart: a disk that does not answer takes its own process along alone.

Called by `prove.proof` and `prove.whereabouts`. May import the standard library alone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

Work = Callable[[], Mapping[str, Any]]

DEADLINE = 20.0  # seconds for all that is tried at once: a disk that sleeps needs ten

_LARGEST = 1 << 16  # bytes of an answer
_REAPING = 0.2  # seconds that a killed process is waited for


class Answer(NamedTuple):
    """What came of some work: its result, or why there is none."""

    result: Mapping[str, Any]
    failure: str = ""


class _Process(NamedTuple):
    pid: int
    pipe: int


def together(works: Sequence[Work], deadline: float) -> tuple[Answer, ...]:
    """What each piece of work answered within `deadline` seconds; all are done at once.

    One that has not answered is killed and left: a process that waits for a disk ends when the disk answers.
    """
    end = time.monotonic() + deadline
    processes = [_start(work) for work in works]
    return tuple(_answer(process, end, deadline) for process in processes)


def hung(failure: str) -> str:
    """What to say of a disk whose process gave no answer."""
    return f"{failure}: its disk hangs or is gone; see the kernel's log"


def _start(work: Work) -> _Process:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # What it keeps open outlives its parent: the lock of kdumpd's state among it, and a pipe whose reader
            # waits for the end.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(theirs, 3)
            for standard in range(3):
                os.dup2(nowhere, standard)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            os.write(3, json.dumps(dict(work())).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    return _Process(pid, ours)


def _answer(process: _Process, end: float, deadline: float) -> Answer:
    text = b""
    try:
        while len(text) < _LARGEST:
            ready, _, _ = select.select([process.pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return Answer({}, f"did not answer within {deadline:.0f} s")
            if not (part := os.read(process.pipe, _LARGEST)):
                break
            text += part
    finally:
        os.close(process.pipe)
        _end(process.pid)
    try:
        return Answer(json.loads(text))
    except ValueError:
        return Answer({}, "the process that tried it died")


def _end(pid: int) -> None:
    """The process is gone, or has been told to go and hangs in the kernel."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + _REAPING
    while time.monotonic() < end and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.005)
