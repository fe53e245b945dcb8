"""Programs that are run: their outcome, and their end when they take too long."""

from __future__ import annotations

import os
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
