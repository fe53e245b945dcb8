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
    process = os.fork()
    if process == 0:
        os.close(reading)
        _child(work, writing)
    os.close(writing)
    try:
        return _wait(process, reading, deadline, clock, tell, tick)
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


def _wait(
    process: int,
    reading: int,
    deadline: Callable[[], float],
    clock: Callable[[], float],
    tell: Tell,
    tick: Callable[[], bool],
) -> Outcome:
    poll = select.poll()
    poll.register(reading, select.POLLIN | select.POLLHUP)
    pending = b""
    answer: Outcome | None = None
    while True:
        if tick():
            return _end(process, Failure("stopped", "stopped by a signal to the runner"))
        left = deadline() - clock()
        if left <= 0:
            return _end(process, Failure("overrun", "did not end before its deadline"))
        if not poll.poll(min(_TICK, left) * 1000):
            if _gone(process):  # its workers may still hold the pipe open
                break
            continue
        data = os.read(reading, 65536)
        if not data:
            break
        pending += data
        *lines, pending = pending.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "say" in message:
                tell(*message["say"])
            elif "failure" in message:
                answer = Outcome({}, Failure(*message["failure"]))
            else:
                answer = Outcome(message["result"])
        if answer is not None:
            break
        if len(pending) > _BUFFER:
            return _end(process, Failure("killed", "said a line without an end"))
    if answer is None:
        return _end(process, None)
    _end(process, None)
    return answer


def _end(process: int, failure: Failure | None) -> Outcome:
    """The child, and every process it left, is gone or abandoned; how it ended is the failure where none is given."""
    if failure is not None:
        _kill(process)
    status = _reap(process)
    _kill_group(process)
    if status is None:
        given = failure or Failure("overrun", "its process does not end")
        return Outcome({}, Failure(given.kind, f"{given.text}; its process hangs in the kernel and was left"), True)
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
