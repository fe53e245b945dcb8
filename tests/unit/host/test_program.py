"""Programs that are run: their outcome, and their end when they take too long."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.host import program


def test_an_outcome_has_the_code_and_what_was_written() -> None:
    outcome = program.run(["sh", "-c", "cat; echo wrong >&2; exit 3"], text="said")
    assert outcome == (3, "said", "wrong\n")
    assert outcome.complaint == "wrong"


def test_what_cannot_be_started_is_one_error() -> None:
    with pytest.raises(HostError, match="/nonexistent: cannot be started: No such file"):
        program.run(["/nonexistent"])


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "child"
    with pytest.raises(HostError, match="sh: still running after 1 seconds, stopped"):
        program.run(["sh", "-c", f"sleep 300 & echo $! > {note}; wait"], deadline=0.6)
    child = int(note.read_text())
    deadline = time.monotonic() + 5
    while _is_running(child) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _is_running(child)


#: A process that its parent cannot reap although it was killed, as one that waits for a disk: another traces it.
_UNREAPED = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, any
traced = os.getpid()
if os.fork() == 0:
    os.setsid()
    attached = libc.ptrace(0x4206, traced, None, None)  # PTRACE_SEIZE
    open(sys.argv[1], "w").write(f"{os.getpid()} {attached}")
    time.sleep(60)
time.sleep(300)
"""


def test_a_program_that_no_signal_ends_is_left_behind_and_said(tmp_path: Path) -> None:
    note = tmp_path / "tracer"
    started = time.monotonic()
    with pytest.raises(HostError) as raised:
        program.run([sys.executable, "-c", _UNREAPED, str(note)], deadline=1.5)
    tracer, attached = note.read_text().split()
    os.kill(int(tracer), 9)
    assert attached == "0"
    assert time.monotonic() - started < 30
    assert str(raised.value) == (
        f"{sys.executable}: still running after 2 seconds, and killing it does not end it: "
        "it hangs in the kernel; see its log"
    )
