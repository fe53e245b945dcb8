"""A risky step in a process of its own: an oops, the OOM killer or a hang takes the child, and the runner goes on.

The child tells what it does and what came out of it as JSON lines through a pipe. Called by `capture.step`.
May import `capture.door`.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable

from kdumpd.capture.door import Failure, Outcome, Result, guarded

Tell = Callable[[str, str], None]  # says one line (step, text) on the console, also from inside a child

_TICK = 0.1  # seconds between two looks at the memory, the deadline and a signal to the runner
_READ = 64 << 10
_BUFFER = 1 << 20  # bytes of one line from a child at most
_DYING = 5.0  # seconds a killed child may take to go; one in the hands of a dead disk never does


def run_in_child(
    work: Callable[[Tell], Result],
    deadline: Callable[[], float],
    clock: Callable[[], float],
    tell: Tell,
    tick: Callable[[], bool],
) -> Outcome:
    """Forks, runs `work` there, and waits for what comes out of it until `deadline()` on `clock`.

    The deadline is asked for again and again: it may depend on how far the step has come.
    `tell` is called for each line the child says; `tick` ten times a second: it returns True to have the step stopped.
    """
    reading, writing = os.pipe()
    try:
        try:
            process = os.fork()
            if process == 0:
                os.close(reading)
                _child(work, writing)
        finally:
            os.close(writing)
        return _wait(process, _Answers(reading, tell), deadline, clock, tick)
    finally:
        os.close(reading)


def _child(work: Callable[[Tell], Result], writing: int) -> None:
    """Never returns."""
    code = 1
    try:
        os.setpgid(0, 0)  # so that its workers go with it
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _prefer_for_oom()

        def send(message: Result) -> None:
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(writing, data) :]

        outcome = guarded(lambda: work(lambda stage, text: send({"say": [stage, text]})))
        send({"failure": outcome.failure} if outcome.failure else {"result": outcome.result})
        code = 0
    finally:
        os._exit(code)


def _prefer_for_oom() -> None:
    """Out of memory, the kernel takes this process and not the runner."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as stream:
            stream.write("1000")
    except OSError:
        return


class _Answers:
    """What the child says through the pipe; `answer` once it has said what came out."""

    def __init__(self, reading: int, tell: Tell) -> None:
        self._reading = reading
        self._tell = tell
        self._poll = select.poll()
        self._poll.register(reading, select.POLLIN | select.POLLHUP)
        self._pending = b""
        self.answer: Outcome | None = None
        self.ended = False

    def listen(self, seconds: float) -> bool:
        """Whether anything came within that time; False too once there is an answer, or the pipe has ended."""
        if self.answer is not None or self.ended or not self._poll.poll(seconds * 1000):
            return False
        data = os.read(self._reading, _READ)
        if not data:
            self.ended = True
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        if len(self._pending) > _BUFFER:
            raise ValueError("the step said a line without an end")
        return True

    def drain(self) -> None:
        """What lies in the pipe is heard; a child that never falls silent is not waited for."""
        for _ in range(_BUFFER // _READ):
            if not self.listen(0.0):
                return

    def _take(self, message: Result) -> None:
        if "say" in message:
            self._tell(*message["say"])
        elif "failure" in message:
            self.answer = Outcome({}, Failure(*message["failure"]))
        else:
            self.answer = Outcome(message["result"])


def _wait(
    process: int,
    answers: _Answers,
    deadline: Callable[[], float],
    clock: Callable[[], float],
    tick: Callable[[], bool],
) -> Outcome:
    try:
        failure = _listen(process, answers, deadline, clock, tick)
    except BaseException as error:
        _end(process, Failure("killed", str(error)))
        raise
    if answers.answer is None:
        return _end(process, failure)
    _end(process, None)
    return answers.answer


def _listen(
    process: int,
    answers: _Answers,
    deadline: Callable[[], float],
    clock: Callable[[], float],
    tick: Callable[[], bool],
) -> Failure | None:
    """There is an answer, or why the child must go, or it has gone by itself (None)."""
    failure: Failure | None = None
    while answers.answer is None and not answers.ended:
        left = deadline() - clock()
        if tick():
            failure = Failure("stopped", "stopped by a signal to the runner")
        elif left <= 0:
            failure = Failure("overrun", "did not end before its deadline")
        elif answers.listen(min(_TICK, left)):
            continue
        # Gone already, though its workers may still hold the pipe open: its answer may have come just now.
        if failure is not None or _gone(process):
            answers.drain()
            break
    return failure


def _end(process: int, failure: Failure | None) -> Outcome:
    """The child, and every process it left, is gone or left behind; how it ended is the failure where none is given."""
    if failure is not None:
        _kill(process)
    status = _reap(process)
    _kill_group(process)
    if status is None:
        given = failure or Failure("overrun", "its process does not end")
        return Outcome({}, Failure(given.kind, f"{given.text}; its process hangs in the kernel and was left"))
    if failure is not None:
        return Outcome({}, failure)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        cause = " (the kernel does that when memory runs out)" if number == signal.SIGKILL else ""
        return Outcome({}, Failure("killed", f"killed by {_name(number)}{cause}"))
    return Outcome({}, Failure("killed", f"ended with status {os.WEXITSTATUS(status)} and no answer"))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _gone(process: int) -> bool:
    """The child has ended and waits to be reaped."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(process: int) -> None:
    _kill_group(process)
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _reap(process: int) -> int | None:
    """The child's wait status, None if it has not gone in time; as PID 1, orphans are reaped on the way."""
    with_patience = select.poll()
    for _ in range(int(_DYING / 0.01)):
        try:
            gone, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if gone == process:
            return status
        if gone == 0:
            with_patience.poll(10)
    return None
