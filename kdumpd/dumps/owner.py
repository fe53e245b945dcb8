"""Whose dump it is, where several machines share a target: by the name of the host that crashed, whole.

Called by `dumps.prune`, `dumps.aftermath`, `dumps.listing` and the verbs. May import `dumps.folder` and `target`.
"""

from __future__ import annotations

from collections.abc import Collection

from kdumpd.dumps.folder import Folder
from kdumpd.target.local import safe_name


def this_host(proc: str = "/proc") -> str:
    """The name by which the kernel knows this machine: its dumps have it too, from the memory of the crashed kernel."""
    try:
        with open(f"{proc}/sys/kernel/hostname", encoding="utf-8", errors="replace") as stream:
            return stream.read(256).strip()
    except OSError:
        return ""


def owns(hosts: Collection[str], folder: Folder) -> bool:
    """Whether a dump is of one of these hosts; its record tells, or its name, which has other characters replaced.

    What cannot be read now is nobody's: nothing is told of it, and nothing is taken away.
    """
    if folder.foreign or folder.unread:
        return False
    return safe_name(folder.told.host) in {safe_name(host) for host in hosts if host}
