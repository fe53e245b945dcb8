"""A step in a child: what it does, what kills it, what it leaves behind."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd.capture.child import Tell, run_in_child
from kdumpd.capture.door import Outcome, Result
from kdumpd.capture.mark import Mark
from kdumpd.errors import TargetError


def run(
    work: Callable[[Tell], Result],
    seconds: float = 10.0,
    tell: Tell = lambda stage, text: None,
    tick: Callable[[], bool] = lambda: False,
) -> Outcome:
    end = time.monotonic() + seconds
    return run_in_child(work, lambda: end, time.monotonic, tell, tick)


def forever() -> Result:
    while True:
        time.sleep(1)


def test_a_result_comes_back_and_lines_come_on_the_way() -> None:
    said: list[tuple[str, str]] = []

    def work(tell: Tell) -> Result:
        tell("scan", "half")
        tell("dump", "begins")
        return {"pages": 7, "big": "x" * 200_000}

    outcome = run(work, tell=lambda stage, text: said.append((stage, text)))
    assert outcome.failure is None
    assert outcome.result["pages"] == 7
    assert said == [("scan", "half"), ("dump", "begins")]


def test_an_error_comes_back_by_its_class_and_text() -> None:
    def work(tell: Tell) -> Result:
        raise TargetError("/dev/vda: gone")

    failure = run(work).failure
    assert failure is not None
    assert (failure.kind, failure.text) == ("TargetError", "/dev/vda: gone")


def test_a_defect_comes_back_with_the_place_it_was_raised() -> None:
    def work(tell: Tell) -> Result:
        nothing: dict[str, str] = {}
        return {"x": nothing["missing"]}

    failure = run(work).failure
    assert failure is not None
    assert failure.kind == "KeyError"
    assert "test_child.py:" in failure.text


def test_an_answer_that_is_no_json_is_a_failure() -> None:
    assert run(lambda tell: {"x": object()}).failure is not None


def test_a_child_that_is_killed_is_told_with_its_signal() -> None:
    def work(tell: Tell) -> Result:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    failure = run(work).failure
    assert failure is not None
    assert failure.kind == "killed"
    assert "SIGKILL" in failure.text
    assert "memory" in failure.text


def test_a_child_that_overruns_is_killed_with_its_workers() -> None:
    worker = Mark()

    def work(tell: Tell) -> Result:
        pid = os.fork()
        if pid == 0:
            forever()
        worker.set(pid)
        return forever()

    start = time.monotonic()
    failure = run(work, seconds=0.5).failure
    assert failure is not None
    assert failure.kind == "overrun"
    assert time.monotonic() - start < 5
    assert gone(worker.get())


def gone(process: int) -> bool:
    """Within a second, there is no such process, or only what its parent has to reap."""
    for _ in range(100):
        try:
            with Path(f"/proc/{process}/stat").open() as stream:
                if stream.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_a_child_that_dies_while_its_worker_lives_is_noticed_at_once() -> None:
    def work(tell: Tell) -> Result:
        if os.fork() == 0:
            forever()
        os._exit(3)

    start = time.monotonic()
    failure = run(work).failure
    assert failure is not None
    assert "status 3" in failure.text
    assert time.monotonic() - start < 5


def test_a_step_is_stopped_when_the_runner_is_told_to() -> None:
    ticks = iter(range(1000))
    failure = run(lambda tell: forever(), tick=lambda: next(ticks) > 2).failure
    assert failure is not None
    assert failure.kind == "stopped"


def test_the_deadline_may_depend_on_how_far_the_step_is() -> None:
    mark = Mark()
    start = time.monotonic()

    def work(tell: Tell) -> Result:
        time.sleep(0.1)
        mark.set(1)
        time.sleep(0.5)
        return {"done": True}

    def deadline() -> float:
        return start + (5.0 if mark.get() else 0.4)

    outcome = run_in_child(work, deadline, time.monotonic, lambda stage, text: None, lambda: False)
    assert outcome.result == {"done": True}


def test_the_out_of_memory_killer_prefers_the_child() -> None:
    def work(tell: Tell) -> Result:
        with Path("/proc/self/oom_score_adj").open() as stream:
            return {"score": int(stream.read())}

    assert run(work).result == {"score": 1000}


def test_an_answer_that_came_just_before_the_deadline_or_the_end_is_taken() -> None:
    # The worker holds the pipe open, and the clock stands until the child has gone: the answer is there unread.
    child = Mark()

    def work(tell: Tell) -> Result:
        child.set(os.getpid())
        if os.fork() == 0:
            forever()
        return {"done": True}

    def overrun() -> float:
        while not (child.get() and gone(child.get())):
            time.sleep(0.01)
        return 0.0

    assert run_in_child(work, overrun, time.monotonic, lambda stage, text: None, lambda: False).result == {"done": True}


def test_a_defect_while_waiting_takes_the_child_along_and_is_told() -> None:
    child = Mark()

    def work(tell: Tell) -> Result:
        child.set(os.getpid())
        tell("dump", "begins")
        return forever()

    def tell(stage: str, text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(work, tell=tell)
    with pytest.raises(ProcessLookupError):
        os.kill(child.get(), 0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_fork_that_fails_leaves_no_descriptor_behind() -> None:
    # A process that may have no other: in a child, since the limit holds for all of this user's (but root's).
    def work(tell: Tell) -> Result:
        if os.getuid() == 0:
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        before = open_descriptors()
        try:
            run(lambda tell: {})
        except OSError as error:
            return {"error": error.errno, "left": open_descriptors() - before}
        return {}

    assert run(work).result == {"error": errno.EAGAIN, "left": 0}
