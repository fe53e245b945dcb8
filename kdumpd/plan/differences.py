"""What differs between then and now, in words: two policies, lists of drivers, files, targets, command lines. Pure.

Called by `plan.reasons`. May import `host.modules`, `policy`, `plan.situation` and the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kdumpd.host.modules import name_of
from kdumpd.plan.situation import PolicyFile
from kdumpd.policy.compiled import NOT_CARRIED
from kdumpd.policy.units import render_size

_SHOWN = 3  # names of files in a reason
_SIZES = ("min_free", "max_size", "start", "size")


def changed_keys(old: object, new: object, path: str = "") -> tuple[tuple[str, object, object], ...]:
    """(key.path, old, new) for every value in which two JSON documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return tuple(
            change
            for key in sorted({*old, *new})
            for change in changed_keys(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        )
    return () if old == new else ((path, old, new),)


def time_text(seconds: int) -> str:
    """A time as the policy writes it: `90s`, `15min`, `2h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _value_text(path: str, value: object) -> str:
    """A value of the compiled policy as a person would write it."""
    key = path.rpartition(".")[2]
    if value is None:
        return "auto" if key in ("jobs", "cpus") else "nothing"
    if isinstance(value, int) and not isinstance(value, bool):
        if key in _SIZES:
            return render_size(value)
        if key == "time_budget":
            return time_text(value)
    return value if isinstance(value, str) else json.dumps(value)


def _place(path: str, file: PolicyFile) -> str:
    """Where in the file a value stands; what the image calls by a longer name may be one value there."""
    if not file.name:
        return ""
    while path:
        if path in file.lines:
            return f" ({file.name}, line {file.lines[path]})"
        path = path.rpartition(".")[0]
    return f" (the default: {file.name} does not have it)"


class Change(NamedTuple):
    """A difference in words, and what it is from and to."""

    text: str
    old: str = ""
    new: str = ""


def policy(old_json: str | None, new_json: str, file: PolicyFile) -> tuple[Change, ...]:
    """A line for each key of the policy that changed: old and new value, and where it stands; one for all where the old
    policy is not known; none where the old one has more than an image needs, and the same of what it does."""
    try:
        changes = changed_keys(json.loads(old_json or ""), json.loads(new_json))
    except ValueError:
        changes = ()
    if changes and all(path in NOT_CARRIED for path, _, _ in changes):
        return ()
    said = tuple(
        _change(f"the policy changed: {path}", _value_text(path, old), _value_text(path, new), _place(path, file))
        for path, old, new in changes
        if path not in NOT_CARRIED
    )
    return said or (Change("the policy changed"),)


def _change(what: str, old: str, new: str, where: str = "") -> Change:
    return Change(f"{what} {old} to {new}{where}", old, new)


def more_and_less(old: Iterable[str], new: Iterable[str]) -> str:
    """`now a, b; no longer c`, "" where both have the same."""
    old, new = tuple(old), tuple(new)
    more = [word for word in new if word not in old]
    less = [word for word in old if word not in new]
    parts = ([f"now {', '.join(more)}"] if more else []) + ([f"no longer {', '.join(less)}"] if less else [])
    return "; ".join(parts)


def _names(paths: Iterable[str]) -> str:
    listed = sorted(paths)
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def is_rebuilt(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether of the files that both have the one that differs is this kernel module."""
    return [name_of(path) for path in _different(old, new)] == [name]


def _different(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [path for path in new if old.get(path, new[path]) != new[path]]


def files(old: Mapping[str, str], new: Mapping[str, str], explained: bool) -> str:
    """Which files changed; that there are others (`explained`: by another reason) is said only where it is news."""
    different = _different(old, new)
    if different:
        return f"changed: {_names(different)}"
    if explained:
        return ""
    parts = [
        f"{word} {_names(paths)}"
        for word, paths in (("now", set(new) - set(old)), ("no longer", set(old) - set(new)))
        if paths
    ]
    return f"it is made of other files: {'; '.join(parts)}"


def targets(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[Change, ...]:
    """A line for each thing in which two targets.json differ."""
    before, after = _by_path(old), _by_path(new)
    said = [
        _change(f"the {key} of target {path} changed:", str(before[path].get(key)), str(value))
        for path, target in after.items()
        if path in before
        for key, value in target.items()
        if before[path].get(key) != value
    ]
    others = more_and_less(before, after)
    said += [Change(f"the targets changed: {others}")] if others else []
    if list(before) != list(after) and not others:
        said.append(Change(f"the targets changed: now tried in the order {', '.join(after)}"))
    if old.get("hostname") != new.get("hostname"):
        said.append(_change("the host's name changed:", str(old.get("hostname")), str(new.get("hostname"))))
    if old.get("hands_off") != new.get("hands_off"):
        said.append(Change("the memory that the dump leaves alone changed"))
    return tuple(said)


def _by_path(document: Mapping[str, object]) -> dict[str, dict[str, object]]:
    listed = document.get("targets")
    found = [target for target in listed if isinstance(target, dict)] if isinstance(listed, list) else []
    return {str(target.get("path")): target for target in found}
