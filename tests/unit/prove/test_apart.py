"""Work in processes apart: answers, deaths, and what hangs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdumpd.prove.apart import together


def hang() -> Mapping[str, Any]:
    time.sleep(600)
    return {}


def die() -> Mapping[str, Any]:
    os._exit(3)


def test_what_hangs_delays_the_others_by_nothing_and_is_given_up_at_the_deadline() -> None:
    started = time.monotonic()
    hung, answered, dead = together([hang, lambda: {"free": 3}, die], deadline=0.5)
    assert time.monotonic() - started < 5
    assert hung.failure == "did not answer within 0 s"
    assert (answered.result, answered.failure) == ({"free": 3}, "")
    assert dead.failure == "the process that tried it died"


def test_no_process_is_left_behind() -> None:
    together([hang, die], deadline=0.1)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert children == []


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
