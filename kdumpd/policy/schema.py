"""The JSON Schema of the policy, read once, and what it says about a path: titles, types, defaults.

`config/kdumpd.schema.json` is the single source of what a policy may hold; nothing here repeats it. Called by `check`,
`load` and `reference`.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path as FilePath
from typing import Any

from jsonschema import Draft7Validator

from kdumpd.errors import HostError
from kdumpd.policy.problem import Path

Schema = dict[str, Any]

_NAME = "kdumpd.schema.json"
# A checkout keeps it in config/, an installed package in PREFIX/share/kdumpd/.
_PLACES = (
    FilePath(__file__).parents[2] / "config" / _NAME,
    FilePath(sys.prefix) / "share" / "kdumpd" / _NAME,
    FilePath("/usr/share/kdumpd") / _NAME,
)


@functools.cache
def schema() -> Schema:
    """The whole schema. HostError when the file is not installed."""
    for place in _PLACES:
        if place.is_file():
            loaded: Schema = json.loads(place.read_text(encoding="utf-8"))
            return loaded
    raise HostError(f"{_NAME} is not installed (looked in {', '.join(map(str, _PLACES))}): reinstall kdumpd")


def at(path: Path) -> Schema | None:
    """The part of the schema that speaks of a path; None where the path is unknown."""
    part: Schema | None = schema()
    for step in path:
        if part is None:
            return None
        part = _below(part, step)
    return part


def _below(part: Schema, step: str | int) -> Schema | None:
    for branch in (part, *part.get("anyOf", ())):
        found = branch.get("items") if isinstance(step, int) else branch.get("properties", {}).get(step)
        if found is not None:
            below: Schema = found
            return below
    return None


def title(path: Path) -> str:
    """What is right at a path, as a noun phrase."""
    part = at(path)
    return str(part["title"]) if part else "a key of the policy"


def allows(part: Schema, value: object) -> bool:
    """Whether a value is valid under a part of the schema."""
    return bool(Draft7Validator(part).is_valid(value))


def words(part: Schema) -> tuple[str, ...]:
    """The words that a part of the schema allows by name."""
    found: list[str] = []
    for branch in (part, *part.get("anyOf", ())):
        found += [word for word in branch.get("enum", ()) if isinstance(word, str)]
    return tuple(found)


@functools.cache
def paths() -> tuple[Path, ...]:
    """The path of every key, in the schema's order; list items stand as 0."""
    found: list[Path] = []

    def walk(part: Schema, path: Path) -> None:
        for key, below in part.get("properties", {}).items():
            found.append((*path, key))
            walk(below, (*path, key))
        if "items" in part:
            walk(part["items"], (*path, 0))

    walk(schema(), ())
    return tuple(found)


def with_defaults(value: dict[str, Any], part: Schema | None = None) -> dict[str, Any]:
    """A valid mapping with every missing key that has a default filled in, all the way down."""
    properties: dict[str, Schema] = (schema() if part is None else part)["properties"]
    filled = {key: below["default"] for key, below in properties.items() if "default" in below} | value
    return {
        key: with_defaults(item, properties[key]) if isinstance(item, dict) else item for key, item in filled.items()
    }
