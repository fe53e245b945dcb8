"""Work in processes apart: answers, deaths, and what hangs."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kdumpd.prove import apart, asked
from kdumpd.prove.apart import Answer, together

DISK = "its disk hangs or is gone; see the kernel's log"
DEFECT = "this is a defect of kdumpd, please report it"
QUESTION = "whereabouts of /srv/crash"


def hang() -> Mapping[str, Any]:
    time.sleep(600)
    return {}


def die() -> Mapping[str, Any]:
    os._exit(3)


def good() -> Mapping[str, Any]:
    return {"free": 3}


def children() -> list[int]:
    return [*map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run/kdumpd").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
def immortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """No signal ends a process, as one that waits for a disk, until the fixture is called."""
    kill = os.kill

    def end() -> None:
        for child in children():
            kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    monkeypatch.setattr(os, "kill", lambda *_: None)
    yield end
    end()


def test_what_hangs_delays_the_others_by_nothing_and_is_given_up_at_the_deadline() -> None:
    started = time.monotonic()
    hung, answered, dead = together([hang, lambda: {"free": 3}, die], deadline=0.5)
    assert time.monotonic() - started < 5
    assert hung == Answer({}, f"did not answer within 0 s: {DISK}", silent=True)
    assert (answered.result, answered.failure) == ({"free": 3}, "")
    assert dead == Answer({}, f"the process that looked ended with code 3 and no answer; {DEFECT}")


def test_no_process_is_left_behind() -> None:
    together([hang, die], deadline=0.1)
    assert children() == []


def test_a_lock_that_the_caller_holds_is_not_held_by_what_hangs(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def open_files() -> Mapping[str, Any]:
            links = Path("/proc/self/fd").iterdir()
            return {"files": [str(link.readlink()) for link in links if link.exists()]}

        (answer,) = together([open_files], deadline=5)
    assert f"{tmp_path}/lock" not in answer.result["files"]


def test_what_hangs_keeps_no_pipe_open_whose_reader_waits_for_its_end() -> None:
    def standard() -> Mapping[str, Any]:
        return {"files": [str(Path(f"/proc/self/fd/{number}").readlink()) for number in range(3)]}

    (answer,) = together([standard], deadline=5)
    assert answer.result["files"] == [os.devnull] * 3


def test_what_ended_it_is_told_and_no_disk_is_blamed() -> None:
    def defect() -> NoReturn:
        raise KeyError("size\nof it")

    def killed() -> Mapping[str, Any]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    raised, ended, strange = together([defect, killed, lambda: {"what": object()}], deadline=5)
    assert raised == Answer({}, f"the process that looked ended with KeyError: 'size\\nof it'; {DEFECT}")
    assert ended == Answer({}, f"the process that looked ended with signal 11; {DEFECT}")
    assert strange.failure.startswith("the process that looked ended with TypeError: Object of type object is not")


def test_without_processes_to_be_had_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    (answer,) = together([good], deadline=5)
    assert answer.failure.startswith("no process can be had to look at it: Resource temporarily unavailable; ")


def test_what_hangs_still_is_not_asked_again_and_is_when_it_has_ended(run: Path, immortal: Callable[[], None]) -> None:
    (hung,) = together([hang], 0.2, [QUESTION], run)
    assert hung.failure == f"did not answer within 0 s: {DISK}"
    assert len(children()) == 1
    started = time.monotonic()
    for _ in range(3):
        again, other = together([good, good], 30, [QUESTION, "whereabouts of /var/crash"], run)
        assert again == Answer({}, f"did not answer an earlier look, which still hangs: {DISK}", silent=True)
        assert other.result == {"free": 3}
    assert time.monotonic() - started < 5
    assert len(children()) == 1
    immortal()
    for _ in range(2):
        assert together([good], 5, [QUESTION], run) == (Answer({"free": 3}),)


def test_a_look_at_the_same_time_is_waited_for(run: Path) -> None:
    def slow() -> Mapping[str, Any]:
        time.sleep(0.5)
        return {"free": 3}

    def ask() -> None:
        answers.extend(together([slow, slow], 20, [QUESTION, QUESTION], run))

    answers: list[Answer] = []
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [Answer({"free": 3})] * 4


def test_one_that_waited_for_another_has_its_own_time(run: Path) -> None:
    def slow() -> Mapping[str, Any]:
        time.sleep(0.6)
        return {"free": 3}

    assert together([slow, slow], 1.0, [QUESTION, QUESTION], run) == (Answer({"free": 3}),) * 2


def test_a_question_may_have_what_no_text_can_hold(run: Path) -> None:
    assert asked.lock(run, "dump: /a\ud800").parent == run / "kdumpd/asked"


def test_what_another_left_without_a_word_is_waited_for_until_the_deadline_alone(run: Path) -> None:
    held = asked.hold(asked.lock(run, QUESTION))
    assert held is not None
    started = time.monotonic()
    again, other = together([good, good], 0.5, [QUESTION, "another"], run)
    assert 0.5 <= time.monotonic() - started < 5
    assert (again.failure, again.silent) == (f"did not answer an earlier look, which still hangs: {DISK}", True)
    # And once only.
    assert asked.hangs(asked.lock(run, QUESTION))
    assert other == Answer({"free": 3})
    os.close(held)


def test_the_locks_are_for_root_alone_and_few(run: Path) -> None:
    for _ in range(3):
        together([good, hang], 0.2, [QUESTION, "../\udcff of " + "x" * 5000], run)
    folder = run / "kdumpd/asked"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [(path.stat().st_mode & 0o777, path.stat().st_size) for path in folder.iterdir()] == [(0o600, 0)] * 2


def test_where_no_lock_can_be_had_it_is_asked_all_the_same(tmp_path: Path) -> None:
    assert together([good], 5, [QUESTION], tmp_path) == (Answer({"free": 3}),)
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "kdumpd").write_text("")
    assert together([good], 5, [QUESTION], tmp_path) == (Answer({"free": 3}),)


def test_what_it_keeps_open_is_in_its_place_whatever_was_closed_before(run: Path) -> None:
    """A daemon's descriptors 0 to 2 may be closed: a pipe or a lock then has such a number."""

    def standard() -> Mapping[str, Any]:
        links = [str(Path(f"/proc/self/fd/{number}").readlink()) for number in range(5)]
        return {"files": [link.partition(":")[0] for link in links]}

    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        os.dup2(theirs, 9)
        os.closerange(0, 9)
        (answer,) = together([standard], 5, [QUESTION], run)
        os.write(9, json.dumps(answer).encode())
        os._exit(0)
    os.close(theirs)
    os.waitpid(pid, 0)
    result, failure, _ = json.loads(os.read(ours, 4096))
    os.close(ours)
    assert failure == ""
    assert result["files"] == [*[os.devnull] * 3, "pipe", str(asked.lock(run, QUESTION))]


def test_an_exception_of_the_library_is_one_line() -> None:
    assert apart.senseless(RuntimeError("Symlink loop\nfrom '/a'")) == (
        "cannot be looked at: Symlink loop from '/a'; see where the symbolic links and mounts on its way lead"
    )


def test_an_answer_is_had_while_an_error_is_dealt_with() -> None:
    try:
        raise ValueError("the policy is broken")
    except ValueError:
        (answer,) = apart.together([lambda: {"free": 1}], 5)
    assert answer == apart.Answer({"free": 1})
