"""A policy with the file it came from. Called by the verbs. May import `policy` and `plan.situation`."""

from __future__ import annotations

from pathlib import Path

from kdumpd.errors import PolicyError
from kdumpd.plan import state
from kdumpd.plan.situation import PolicyFile
from kdumpd.policy import compiled, load, place
from kdumpd.policy.model import Policy

DEFAULT = "/etc/kdumpd.yaml"


def path_in(root: Path, path: str) -> str:
    """The policy that is meant: the default one of another root is the one there."""
    return str(root / path.lstrip("/")) if path == DEFAULT else path


def read(path: str) -> tuple[Policy, PolicyFile]:
    """The policy in a file, and where its values stand; PolicyError with every problem when it is not valid."""
    data = load.read(path)
    return load.parse(data, path), PolicyFile(path, place.lines(data))


def last_good(root: Path, release: str) -> Policy | None:
    """The policy that this machine's image was built with, None where there is none that can be read."""
    text = state.last_good(root, release)
    try:
        return None if text is None else compiled.from_json(text)
    except PolicyError:
        return None
