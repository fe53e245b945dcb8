"""The stage file: which step runs, beside the dump, for the next boot to find should this kernel die in it.

One line as the console has it, in one block that is overwritten in place, so that a step costs one small write and one
flush of the disk. It goes when the story is told in full (`capture.record`): one that is still there says that the
capture ended half way. Called by `capture.step`, `capture.attempt` and `capture.dumping`, in their children; `dumps`
reads it in the next boot. May import `capture.console`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from kdumpd.capture.console import Console, StepLine, parse, render

NAME = "stage.txt"
SIZE = 512  # bytes: what every disk writes whole or not at all


class Stage:
    """Where the stage is left: nowhere until `begin`, nor after `end`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._path = ""

    def begin(self, directory: str) -> None:
        """From now on stages are left in this directory."""
        self._path = f"{directory}/{NAME}"

    def end(self) -> None:
        """No stage is left any more."""
        self._path = ""

    def leave(self, stage: str, text: str = "begins") -> None:
        """The stage is on the disk; one that cannot be written costs nothing else."""
        if not self._path:
            return
        console = self._console
        line = render(StepLine(console.clock(), console.sample() >> 20, stage, text)).encode("utf-8", "replace")
        with suppress(OSError):
            _overwrite(self._path, line[: SIZE - 1].ljust(SIZE - 1) + b"\n")

    def remove(self) -> None:
        """The file is gone."""
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)


def _overwrite(path: str, block: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, block, 0)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def read(block: bytes) -> StepLine | None:
    """The step that a stage file's content names; None where it makes no sense."""
    return parse(block[:SIZE].decode("utf-8", "replace").strip())
