"""The JSON records that other parts of kdumpd leave, read for `status`: what is missing or makes no sense is nothing.

Where the last crash's directory is now is looked up as well.

targets.json is by `prove`, rehearsal.json by `rehearse`, crashes.json by `dumps`, /run/kdumpd/service.json by
`service`. Called by the verb `status`. May import `host`, `dumps`, `plan.line` and `prove.apart`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdumpd.dumps.whereabouts import Found, find
from kdumpd.host.process import started
from kdumpd.host.statefile import folder
from kdumpd.plan.line import printable
from kdumpd.prove import apart

SERVICE = Path("kdumpd/service.json")

_DEADLINE = apart.DEADLINE  # seconds until a crash's directory is given up
_LARGEST = 1e18  # of a number: more than any time or size here
_LONGEST_PID = 10  # digits


@dataclass(frozen=True)
class Records:
    """The documents as they are; `unread` names those that may not be read.

    `dump` is where the directory of the last crash is now, None where it never had one.
    """

    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rehearsal: Mapping[str, Any] | None = None
    crashes: tuple[Mapping[str, Any], ...] = ()
    dump: Found | None = None
    service: Mapping[str, Any] | None = None
    service_runs: bool = False
    unread: tuple[str, ...] = ()


def _document(path: Path, unread: list[str]) -> Mapping[str, Any] | None:
    try:
        document = json.loads(path.read_text(errors="replace"))
    except PermissionError:
        unread.append(str(path))
        return None
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _listed(document: Mapping[str, Any] | None, key: str) -> tuple[Mapping[str, Any], ...]:
    items = (document or {}).get(key)
    return tuple(item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()


def read(root: Path = Path("/"), run: Path = Path("/run"), proc: Path = Path("/proc")) -> Records:
    """Every record there is."""
    unread: list[str] = []
    kept = folder(root)
    targets = _listed(_document(kept / "targets.json", unread), "targets")
    crashes = _listed(_document(kept / "crashes.json", unread), "crashes")
    rehearsal = _document(kept / "rehearsal.json", unread)
    service = _document(run / SERVICE, unread)
    return Records(
        targets={str(target.get("path")): target for target in targets},
        rehearsal=rehearsal,
        crashes=crashes,
        dump=_whereabouts(crashes[-1], run) if crashes else None,
        service=service,
        service_runs=_runs(service or {}, proc),
        # One line for all that lies in one folder.
        unread=tuple(dict.fromkeys(str(kept) if Path(path).parent == kept else path for path in unread)),
    )


def _whereabouts(crash: Mapping[str, Any], run: Path) -> Found | None:
    path = crash.get("path")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path or text(crash, "removed"):
        return None
    named = text(crash, "identity")
    # Its target may be the very disk that hangs.
    (answer,) = apart.together([lambda: find(path, named)._asdict()], _DEADLINE, [f"dump: {path}"], run)
    if answer.failure:
        return Found(path, dump=True, problem=f"{path}: {answer.failure}")
    return Found(**answer.result)


def _runs(service: Mapping[str, Any], proc: Path) -> bool:
    """Whether the process that wrote it is there, and not another one that has its number now."""
    process, began = str(service.get("pid", "")), service.get("started")
    if began is None or not process.isdecimal() or len(process) > _LONGEST_PID:
        return False
    return bool(began == started(process, str(proc))) or _hidden(proc / process)


def _hidden(process: Path) -> bool:
    """Whether it is there, and one may not know when it began: /proc mounted with hidepid=1."""
    return not os.access(process / "stat", os.R_OK) and process.is_dir()


def number(document: Mapping[str, Any], key: str) -> float:
    """A number of a document, 0 where there is none that makes sense (JSON's reader takes NaN and Infinity too)."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if -_LARGEST < value < _LARGEST else 0


def text(document: Mapping[str, Any], key: str) -> str:
    """A text of a document on one line, "" where there is none."""
    value = document.get(key)
    if not isinstance(value, str):
        return ""
    return printable(" ".join(value.split()))
