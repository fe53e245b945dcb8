"""Which process a number stands for: a number is given again as soon as its process has ended.

Called by `service.record` and `status.records`. Imports the standard library alone, since the service stays in memory.
"""

from __future__ import annotations

from pathlib import Path


def started(pid: int | str, proc: str = "/proc") -> int | None:
    """When a process began, in clock ticks since the kernel's start; None where there is none of that number.

    With the number that is a name which no other process of this boot has (proc(5), field 22 of /proc/PID/stat).
    """
    try:
        # The name, in parentheses, may hold any character, these as well.
        return int(Path(proc, str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
