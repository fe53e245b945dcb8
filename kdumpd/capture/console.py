"""The capture's own story: one line a step on the console, with the seconds since its kernel started and memory left.

`render` makes a line, `parse` reads it back (the rehearsal's timeline does). Lines go through /dev/kmsg: the kernel
puts each on the serial console whole and in order, where writes to /dev/console are cut by the kernel's own messages.
Called by everything in `capture`, and by `rehearse`. May import the standard library alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

_PREFIX = "kdumpd: +"
_NOTICE = b"<5>"  # include/linux/kern_levels.h, KERN_NOTICE: printed unless the console's level was lowered to it
_CONSOLE_LEVEL = 6  # the lowest console level that prints notices
_KMSG_BYTES = (
    900  # a record of /dev/kmsg is at most 1024 bytes with its prefix (kernel/printk/printk.c, PRINTKRB_RECORD_MAX)
)
LOG_LINES = 1000  # in capture.log, which has 128 KiB of room (capture.record)


class StepLine(NamedTuple):
    """One line: seconds since the capture kernel started, MiB of memory available, the step, and what happened."""

    seconds: float
    memory: int
    stage: str
    text: str


def render(line: StepLine) -> str:
    """The line as the console shows it, without an end of line."""
    return f"{_PREFIX}{line.seconds:.2f} s mem={line.memory} M {line.stage}: {line.text}"


def parse(text: str) -> StepLine | None:
    """The step line in a line of console output (whatever the console put before it), or None if there is none."""
    _, found, rest = text.partition(_PREFIX)
    seconds, unit, rest = rest.partition(" s mem=")
    memory, megabytes, rest = rest.partition(" M ")
    stage, colon, what = rest.partition(": ")
    if not (found and unit and megabytes and colon and memory.isascii() and memory.isdigit()):
        return None
    try:
        return StepLine(float(seconds), int(memory), stage, what.rstrip("\r\n"))
    except ValueError:
        return None


def uptime() -> float:
    """Seconds since this kernel started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def available_memory() -> int:
    """Bytes that programs can still have (MemAvailable), 0 where /proc does not say."""
    try:
        with open("/proc/meminfo", "rb") as stream:
            text = stream.read(4096)
    except OSError:
        return 0
    _, found, rest = text.partition(b"MemAvailable:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


class Console:
    """Says lines, keeps them for capture.log, and remembers the least memory that was seen available."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        clock: Callable[[], float] = uptime,
        memory: Callable[[], int] = available_memory,
    ) -> None:
        self._write = write
        self._memory = memory
        self.clock = clock
        self.lines: list[str] = []
        self.stage = "start"
        self.smallest_memory = memory()
        self.smallest_stage = self.stage

    def sample(self) -> int:
        """Bytes available now; the smallest is remembered with the step it was seen in."""
        available = self._memory()
        if available < self.smallest_memory:
            self.smallest_memory, self.smallest_stage = available, self.stage
        return available

    def say(self, stage: str, text: str) -> None:
        """One line on the console and in the log; a console that cannot be written to costs nothing else."""
        self.stage = stage
        line = render(StepLine(self.clock(), self.sample() >> 20, stage, _one_line(text)))
        self.lines.append(line)
        if len(self.lines) > LOG_LINES:
            # The progress of a long dump fills the middle: how it began and how it ended stay.
            del self.lines[LOG_LINES // 2]
        self.raw(line)

    def raw(self, line: str) -> None:
        """A line as it is on the console, not in the log."""
        try:
            self._write(line.encode("utf-8", "replace"))
        except OSError:
            return


def kernel_log_writer() -> Callable[[bytes], None]:
    """A function that puts a line on every console of this kernel, through /dev/kmsg, else through standard error."""
    _set("/proc/sys/kernel/printk_devkmsg", "on")  # no rate limit: by default 10 lines in 5 seconds
    _raise_console_level()
    try:
        descriptor, mark = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC), _NOTICE
    except OSError:
        descriptor, mark = 2, b""
    # Without an end of line the kernel waits for more of the record, and prints it only before the next one.
    return lambda line: _write_whole(descriptor, mark + line[:_KMSG_BYTES] + b"\n")


def _write_whole(descriptor: int, record: bytes) -> None:
    os.write(descriptor, record)


def _raise_console_level() -> None:
    """Notices reach the console even where `quiet` came along on the command line."""
    try:
        with open("/proc/sys/kernel/printk", encoding="utf-8") as stream:
            level = int(stream.read().split()[0])
    except (OSError, ValueError, IndexError):
        return
    if level < _CONSOLE_LEVEL:
        _set("/proc/sys/kernel/printk", str(_CONSOLE_LEVEL))


def _set(path: str, value: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(f"{value}\n")  # printk_devkmsg takes no word without its end of line
    except OSError:
        return
