"""Work that may hang for ever, done by processes apart: a disk that does not answer takes its own process along alone.

One process a question: while that of an earlier look hangs, whoever started it, no other is started. Called by
`prove.proof`, `prove.whereabouts`, `dumps` and `status`. May import `prove.asked`.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kdumpd.prove import asked

Work = Callable[[], Mapping[str, Any]]

DEADLINE = 20.0  # seconds for all that is tried at once: a disk that sleeps needs ten

_LARGEST = 1 << 16  # bytes of an answer
_REAPING = 0.2  # seconds that a killed process is waited for
_TURN = 0.02  # seconds between two tries for a lock that another look holds
_DISK = "its disk hangs or is gone; see the kernel's log"


class Answer(NamedTuple):
    """What came of some work: its result, or in one line why there is none; `silent` where the disk did not answer."""

    result: Mapping[str, Any]
    failure: str = ""
    silent: bool = False


class _Process(NamedTuple):
    pid: int
    pipe: int
    lock: Path | None
    end: float  # by the monotonic clock: one that had to wait for another look has its own time


def together(
    works: Sequence[Work], deadline: float, questions: Sequence[str] = (), run: Path = Path("/run")
) -> tuple[Answer, ...]:
    """What each piece of work answered within `deadline` seconds; all are done at once.

    One that has not answered is killed and left: a process that waits for a disk ends when the disk answers. With
    `questions`, a line for each piece that says what it asks of which path, nothing is asked while one that was left
    hangs on that question, and two that ask it at the same time do so one after the other: the second may then take
    twice as long.
    """
    end = time.monotonic() + deadline
    locks: Sequence[Path | None] = [asked.lock(run, question) for question in questions] or [None] * len(works)
    begun: dict[int, _Process | Answer] = {}
    while True:
        late = time.monotonic() >= end
        for place, (work, lock) in enumerate(zip(works, locks, strict=True)):
            if place not in begun and (one := _begun(work, lock, late, deadline)) is not None:
                begun[place] = one
        if len(begun) == len(works):
            break
        time.sleep(_TURN)
    ordered = [begun[place] for place in range(len(works))]
    return tuple(one if isinstance(one, Answer) else _answer(one, deadline) for one in ordered)


def senseless(error: Exception) -> str:
    """What to say of a path that Python's library cannot follow: links in a circle, or a name that is none."""
    said = " ".join(str(error).split())
    return f"cannot be looked at: {said}; see where the symbolic links and mounts on its way lead"


def _begun(work: Work, lock: Path | None, late: bool, deadline: float) -> _Process | Answer | None:
    """Its process, why there is none, or None while another process is at the same work and may well end."""
    try:
        held = None if lock is None else asked.hold(lock)
    except BlockingIOError:
        if late and lock is not None:
            asked.left(lock)  # who asked has not said so: it was ended itself
        hangs = late or (lock is not None and asked.hangs(lock))
        return Answer({}, f"did not answer an earlier look, which still hangs: {_DISK}", True) if hangs else None
    try:
        return _start(work, lock, held, time.monotonic() + deadline)
    except OSError as error:
        return Answer({}, f"no process can be had to look at it: {error.strerror}; see what uses up the machine")
    finally:
        # From here on the process apart alone holds it, until it is really gone.
        if held is not None:
            os.close(held)


def _start(work: Work, lock: Path | None, held: int | None, end: float) -> _Process:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _work(work, theirs, held)
        return _Process(pid, ours, lock, end)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)


def _work(work: Work, pipe: int, held: int | None) -> NoReturn:
    """In the process apart: the answer is sent, or what ended it."""
    code = 1
    try:
        try:
            # What it keeps open outlives its parent: the lock of kdumpd's state among it, and a pipe whose reader
            # waits for the end.
            nowhere = os.open(os.devnull, os.O_RDWR)
            kept = [nowhere, nowhere, nowhere, pipe, *([] if held is None else [held])]
            for number, one in enumerate([fcntl.fcntl(one, fcntl.F_DUPFD, len(kept)) for one in kept]):
                os.dup2(one, number)
            os.closerange(len(kept), os.sysconf("SC_OPEN_MAX"))
            pipe = 3
            os.write(pipe, json.dumps({"result": dict(work())}).encode())
            code = 0
        finally:
            # Without an error of its own there may be one that the parent is dealing with.
            if code and (error := sys.exc_info()[1]) is not None:
                said = " ".join(f"{type(error).__name__}: {error}".split())
                os.write(pipe, json.dumps({"ended": said[:1000]}).encode())
    finally:
        os._exit(code)


def _answer(process: _Process, deadline: float) -> Answer:
    text, silent = b"", False
    try:
        while len(text) < _LARGEST:
            ready, _, _ = select.select([process.pipe], [], [], max(0.0, process.end - time.monotonic()))
            if silent := not ready:
                break
            if not (part := os.read(process.pipe, _LARGEST)):
                break
            text += part
    finally:
        os.close(process.pipe)
        status = _end(process.pid)
    if silent:
        if status is None and process.lock is not None:
            asked.left(process.lock)
        return Answer({}, f"did not answer within {deadline:.0f} s: {_DISK}", True)
    try:
        told = json.loads(text)
    except ValueError:
        told = {}
    if "result" in told:
        return Answer(told["result"])
    return Answer({}, _ended(told.get("ended") or _how(status)))


def _ended(how: str) -> str:
    return f"the process that looked ended with {how}; this is a defect of kdumpd, please report it"


def _how(status: int | None) -> str:
    code = 0 if status is None else os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"code {code} and no answer"


def _end(pid: int) -> int | None:
    """How the process has ended; None for one that has been told to go and hangs in the kernel."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + _REAPING
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    return None
