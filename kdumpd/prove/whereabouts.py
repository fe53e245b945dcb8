"""Each target of a policy found on this machine: its disk, file system and drivers, or why it can be none.

Looked for in processes apart, since a directory and a device may be on a disk that does not answer. Called by
`plan.gather`. May import `host` and `target.superblock`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from kdumpd.errors import HostError
from kdumpd.host import target as host_target
from kdumpd.host.blockdevice import BlockDevice
from kdumpd.host.target import Places, TargetFacts
from kdumpd.prove import apart
from kdumpd.target import superblock


class Whereabouts(NamedTuple):
    """What was found of a target; without facts `why` says in one line what stands in the way."""

    facts: TargetFacts | None
    why: str = ""


def find(paths: Sequence[str], root: Path, places: Places, deadline: float = apart.DEADLINE) -> tuple[Whereabouts, ...]:
    """The targets in their order, within `deadline` seconds; nothing is raised for what is wrong with one.

    The UUID of one that udev knows nothing of is read from its disk.
    """
    works = [lambda path=path: _sought(path, root, places) for path in paths]
    questions = [f"whereabouts below {root}: {path}" for path in paths]
    answers = apart.together(works, deadline, questions, places.run)
    return tuple(_found(path, answer) for path, answer in zip(paths, answers, strict=True))


def _sought(path: str, root: Path, places: Places) -> Mapping[str, Any]:
    """In a process apart: the facts about a target, or the failure."""
    try:
        facts = host_target.locate(path, places, root)
        return asdict(facts if facts.uuid else replace(facts, uuid=_uuid(facts.node, places)))
    except HostError as error:
        return {"failure": str(error)}
    except OSError as error:
        return {"failure": f"target {path}: cannot be looked at: {error.strerror}; see the kernel's log"}
    except (RuntimeError, ValueError) as error:
        return {"failure": f"target {path}: {apart.senseless(error)}"}


def _uuid(node: str, places: Places) -> str | None:
    try:
        found = superblock.read(str(places.dev / node.removeprefix("/dev/")))
    except OSError:
        return None
    return found.uuid if found is not None else None


def _found(path: str, answer: apart.Answer) -> Whereabouts:
    failure = answer.failure and f"target {path}: {answer.failure}"
    failure += ", or name another target" if answer.silent else ""
    failure = failure or str(answer.result.get("failure", ""))
    if failure:
        return Whereabouts(None, failure)
    device = BlockDevice(**_members(BlockDevice, answer.result["device"]))
    return Whereabouts(TargetFacts(**{**_members(TargetFacts, answer.result), "device": device}))


def _members(of: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a frozen value; JSON has lists for its tuples."""
    values = {field.name: document[field.name] for field in fields(of)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
