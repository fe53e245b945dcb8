"""The two documents that the service writes, each replaced in one step.

Called by `service.daemon`; `service.armed` reads the first, `status` and the search after a crash read both. May import
`host.process`, `service.actions`, `service.paths` and the standard library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress

from kdumpd.host.process import started
from kdumpd.service.actions import State
from kdumpd.service.paths import Paths


def _replace(path: str, document: Mapping[str, object], mode: int, lasting: bool) -> None:
    """The document is at `path`, for those that `mode` lets read it; where it is `lasting`, on the disk."""
    os.makedirs(os.path.dirname(path), mode=mode | (mode & 0o444) >> 2, exist_ok=True)
    new = f"{path}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w") as stream:
            os.fchmod(descriptor, mode)
            stream.write(json.dumps({"version": 1, **document}, sort_keys=True) + "\n")
            stream.flush()
            if lasting:
                os.fsync(stream.fileno())
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise


def publish(paths: Paths, state: State) -> None:
    """What the service says of this machine, and which process says it; `systemctl status` shows it to anybody too.

    Where that cannot be written, nothing is there to be read: what was said before holds no longer.
    """
    own = os.getpid()
    who = {"pid": own, "started": started(own, paths.proc)}
    said = {**state._asdict(), "policy_problem": state.policy_problem or None}
    try:
        _replace(paths.service, {**said, **who}, mode=0o644, lasting=False)
    except OSError:
        with suppress(OSError):
            os.unlink(paths.service)
        raise


def keep(paths: Paths, armed: bool, since: float) -> None:
    """A boot that ended without removing this ended without a shutdown; its dump has the host's name of that time."""
    with open(os.path.join(paths.proc, "sys/kernel/hostname"), errors="replace") as stream:
        host = stream.read().strip()
    _replace(
        paths.running, {"boot_id": _boot(paths), "since": since, "armed": armed, "host": host}, mode=0o600, lasting=True
    )


def _boot(paths: Paths) -> str:
    with open(os.path.join(paths.proc, "sys/kernel/random/boot_id")) as stream:
        return stream.read().strip()


def _of_this_boot(paths: Paths) -> bool:
    """Whether running.json is: of a service that was killed earlier in it."""
    try:
        with open(paths.running) as stream:
            return bool(json.load(stream)["boot_id"] == _boot(paths))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def forget(paths: Paths, kept: bool) -> None:
    """A clean stop: nobody speaks for this machine; that of an earlier boot stays for the next start to look at."""
    for path in (paths.service, paths.running)[: 2 if kept or _of_this_boot(paths) else 1]:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _hidden(pid: int, proc: str) -> bool:
    """Whether there is a process of which one may not know when it began: /proc mounted with hidepid=1."""
    return not os.access(f"{proc}/{pid}/stat", os.R_OK) and os.path.isdir(f"{proc}/{pid}")


def read(paths: Paths) -> tuple[bool | None, str]:
    """(armed, the reason) as the service that runs now says; None for armed when none does, or it knows nothing yet."""
    try:
        with open(paths.service) as stream:
            document = json.load(stream)
        armed, reason, pid = document["armed"] is True, str(document["reason"]), int(document["pid"])
        began = document.get("started")
    except FileNotFoundError:
        return None, "kdumpd.service does not run, or knows nothing yet"
    except (OSError, ValueError, TypeError, KeyError) as error:
        return False, f"{paths.service}: cannot be read: {error}; restart kdumpd.service"
    if began is None or (began != started(pid, paths.proc) and not _hidden(pid, paths.proc)):
        return None, "kdumpd.service does not run; start it"
    return armed, reason
