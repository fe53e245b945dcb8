"""pstore records of a crash that left no directory are kept in one like a dump's, so that `list` shows them.

Called by `dumps.aftermath`. May import `dumps.folder`, `dumps.pstore`, `target` and `errors`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from kdumpd.dumps import folder, pstore, told
from kdumpd.errors import TargetError
from kdumpd.target.local import make_directory


class Kept(NamedTuple):
    """The directory (None: there is none), the records in it or where they lie, and why a target did not take them."""

    path: str | None
    identity: str
    records: tuple[str, ...]
    problems: tuple[str, ...]


def keep(firmware: tuple[pstore.Record, ...], targets: Sequence[str], host: str, moment: float, reason: str) -> Kept:
    """The records lie on the first target that takes them; without records nothing is made."""
    problems: list[str] = []
    for target in targets if firmware else ():
        try:
            path = make_directory(target.rstrip("/"), host, moment)
            _write_record(path, host, moment, reason)
            copies = pstore.copy(firmware, path)
            with folder.opened(path, follow=False) as here:
                name = folder.identity(os.fstat(here), os.stat(told.RECORD, dir_fd=here))
        except TargetError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{target}: {error.strerror}")
        else:
            return Kept(path, name, copies, tuple(problems))
    return Kept(None, "", tuple(one.path for one in firmware), tuple(problems))


def _write_record(path: str, host: str, moment: float, reason: str) -> None:
    """A kdumpd.json like the runner's, as far as it is known."""
    document = {
        "format": 1,
        "complete": False,
        "crash": {"host": host, "time": moment, "release": "", "machine": ""},
        "failure": reason,
    }
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(f"{path}/{told.RECORD}", flags, 0o600), "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
