"""Programs of this machine: whether one is there, and the one place that runs one.

Called by `image` and `loader` for every program they start, so that a log, a dry run and a test see the same argv. May
import `errors` alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from kdumpd.errors import HostError

#: Where administrators' programs live; a unit's or a user's PATH may lack the sbin folders.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ENDING = 2.0  # seconds that a killed program is waited for


class Outcome(NamedTuple):
    """How a program ended: exit code and what it wrote."""

    code: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """The last line it wrote on stderr, else on stdout; empty when it was silent."""
        for text in (self.errors, self.output):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return ""


def find(name: str) -> str | None:
    """The absolute path of a program, None when this machine lacks it."""
    return shutil.which(name, path=SEARCH_PATH)


def require(name: str, package: str) -> str:
    """The absolute path of a program; HostError names the package that brings it."""
    path = find(name)
    if path is None:
        raise HostError(f"{name}: not installed; install the package {package}")
    return path


def run(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, text: str = "", deadline: float = 600
) -> Outcome:
    """The outcome of a program that ran to its end, with `text` as its input; `environment` is added to a plain one.

    Raises HostError when it cannot be started or is still running after `deadline` seconds: then it and everything that
    it started are killed, and left where that does not end them.
    """
    plain = {"PATH": SEARCH_PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/root"), **(environment or {})}
    try:
        child = subprocess.Popen(
            arguments,
            env=plain,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"{arguments[0]}: cannot be started: {error.strerror}") from error
    try:
        output, errors = child.communicate(text, deadline)
    except subprocess.TimeoutExpired as error:
        how = "stopped" if _ended(child) else "and killing it does not end it: it hangs in the kernel; see its log"
        raise HostError(f"{arguments[0]}: still running after {deadline:.0f} seconds, {how}") from error
    finally:
        _ended(child)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
    return Outcome(child.returncode, output, errors)


def _ended(child: subprocess.Popen[str]) -> bool:
    """The program and all that it started in its session are killed; whether it is gone, or hangs in the kernel."""
    if child.returncode is not None:
        return True
    # What it started holds the same pipes and may wait for ever: all of them end.
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        child.wait(_ENDING)
    except subprocess.TimeoutExpired:
        return False
    return True


def machine() -> str:
    """The architecture as uname gives it."""
    return os.uname().machine
