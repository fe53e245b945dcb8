"""Everything that is wrong with a policy, by the schema and beyond it, each at its line and column.

`check(bytes)` is the whole of validation: YAML (`document`), the schema (`schema`, jsonschema), then the rules that a
schema cannot state (`rules`). Called by `load`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from kdumpd.policy import rules, schema, units
from kdumpd.policy.document import parse
from kdumpd.policy.node import Node
from kdumpd.policy.problem import Path, Problem, described, dotted, quoted, shown

# Nobody reads more; a file of 256 KiB can hold a hundred times as many.
MOST_PROBLEMS = 1000


class Checked(NamedTuple):
    """A policy's plain value (empty when the file is) and every problem in it, sorted by position."""

    value: dict[str, object]
    problems: tuple[Problem, ...]


def check(data: bytes) -> Checked:
    """The plain value of a policy file and its problems; the value is valid when there are none."""
    document = parse(data)
    problems = list(document.problems)
    root = document.root
    value: object = {}
    if root is not None and root.value is not None:
        value = root.plain()
        found = [*_problems(root, (), document.complete)]
        for path, node in document.repeated:
            found += _problems(node, path, document.complete)
        problems += found
    problems = sorted(set(problems), key=_position)
    if len(problems) > MOST_PROBLEMS:
        line, column, *_ = problems[MOST_PROBLEMS]
        more = f"{len(problems) - MOST_PROBLEMS} more problems from here on"
        problems[MOST_PROBLEMS:] = [Problem(line, column, (), more, "correct those above first")]
    return Checked(value if isinstance(value, dict) else {}, tuple(problems))


def _position(problem: Problem) -> tuple[int, int, str]:
    return problem.line, problem.column, dotted(problem.path)


def _problems(node: Node, path: Path, complete: bool) -> Iterator[Problem]:
    """The problems of a node that stands at a path."""
    part = schema.at(path)
    if part is None:
        return
    surprises = list(_surprises(node, path))
    yield from surprises
    surprising = {problem.path for problem in surprises}
    bad = set(surprising)
    for error in Draft7Validator(part).iter_errors(node.plain()):
        for problem in _explained(error, node, path, complete):
            if problem.path not in surprising and not _broken(node, path, problem.path):
                bad.add(problem.path)
                yield problem
    yield from rules.problems(node, path, frozenset(bad), complete)


def _broken(node: Node, base: Path, path: Path) -> bool:
    """Whether a node on the way to a path is already reported as unreadable."""
    return any(step.broken for step in _way(node, path[len(base) :]))


def _way(node: Node, path: Path) -> Iterator[Node]:
    """The nodes from a node down a path, as far as it goes."""
    yield node
    for step in path:
        if isinstance(node.value, dict) and isinstance(step, str) and step in node.value:
            node = node.value[step].node
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return
        yield node


def _surprises(node: Node, path: Path) -> Iterator[Problem]:
    """The words below a node that YAML reads in a way that people do not expect."""
    part = schema.at(path)
    if part is None:
        return
    if node.surprise is not None and (node.surprise.certain or not schema.allows(part, node.value)):
        surprise = node.surprise
        meant = [value for value in surprise.meant if schema.allows(part, value)]
        right = f"write {' or '.join(_written(value) for value in meant)}" if meant else f"write {part['title']}"
        yield Problem(node.line, node.column, path, f"YAML reads {shown(surprise.word)} as {surprise.read}", right)
    if isinstance(node.value, dict):
        for key, pair in node.value.items():
            yield from _surprises(pair.node, (*path, key))
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            yield from _surprises(item, (*path, index))


def _written(value: object) -> str:
    """A scalar as it is written in YAML so that it is read as itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)


def _explained(error: ValidationError, node: Node, base: Path, complete: bool) -> Iterator[Problem]:
    """What one of jsonschema's errors means to the person who wrote the file."""
    path = (*base, *error.absolute_path)
    *_, place = _way(node, path[len(base) :])
    if error.validator == "anyOf":
        branch = _branch_meant(error)
        if branch:
            for below in branch:
                yield from _explained(below, node, base, complete)
            return
    if error.validator == "additionalProperties":
        yield from _unknown_keys(place, path)
    elif error.validator == "required":
        # A file whose reading ended early lacks nothing that the rest may not bring.
        if complete:
            required: list[str] = (schema.at(path) or {}).get("required", [])
            missing = [key for key in required if isinstance(place.value, dict) and key not in place.value]
            for key in missing:
                right = f"write {key}: {schema.title((*path, key))}"
                yield Problem(place.line, place.column, path, f"the key {key} is missing", right)
    elif error.validator == "uniqueItems":
        yield from _repeated_items(place, path)
    elif error.validator == "maxItems":
        wrong = f"a list of {len(place.children())} items"
        yield Problem(place.line, place.column, path, wrong, f"at most {error.validator_value} are allowed")
    else:
        part = schema.at(path) or {}
        right = f"write {_nearest_value(part, error.instance) or part.get('title', 'something else')}"
        wrong = f"{described(error.instance)} is not allowed here"
        yield Problem(place.line, place.column, path, wrong, right)


def _branch_meant(error: ValidationError) -> list[ValidationError]:
    """The errors of the one alternative that a list or mapping was meant for; none for a scalar."""
    branches: dict[str | int, list[ValidationError]] = {}
    for below in error.context or ():
        branches.setdefault(below.schema_path[0], []).append(below)
    meant = [
        errors
        for errors in branches.values()
        if not any(below.validator == "type" and not below.relative_path for below in errors)
    ]
    return meant[0] if len(meant) == 1 and isinstance(error.instance, list | dict) else []


def _nearest_value(part: schema.Schema, value: object) -> str | None:
    """A spelling that is allowed and near to what was written."""
    if isinstance(value, int) and schema.allows(part, str(value)):
        return quoted(str(value))
    if not isinstance(value, str):
        return None
    numbers = [int(value)] if value.isascii() and value.isdigit() and len(value) < 20 else []
    near = difflib.get_close_matches(value[:64].lower(), schema.words(part), n=1)
    for meant in (*numbers, *units.nearest_spelling(value), *near):
        if schema.allows(part, meant):
            return str(meant)
    return None


def _unknown_keys(place: Node, path: Path) -> Iterator[Problem]:
    if not isinstance(place.value, dict):
        return
    known = list((schema.at(path) or {}).get("properties", {}))
    for key, pair in place.value.items():
        if key not in known:
            right = _nearest_key(key, path, known) or f"known here: {', '.join(known)}"
            yield Problem(pair.line, pair.column, (*path, key), "unknown key", right)


def _nearest_key(key: str, path: Path, known: list[str]) -> str | None:
    """What an unknown key was perhaps meant to be: a near one here, or the same one elsewhere."""
    elsewhere = {
        str(other[-1]): dotted(other) for other in reversed(schema.paths()) if other[:-1] != path and 0 not in other
    }
    if key in elsewhere:
        return f"did you mean {elsewhere[key]}?"
    asked = key[:64].lower().replace("-", "_")
    near = difflib.get_close_matches(asked, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    far = difflib.get_close_matches(asked, list(elsewhere), n=1, cutoff=0.8)
    return f"did you mean {elsewhere[far[0]]}?" if far else None


def _repeated_items(place: Node, path: Path) -> Iterator[Problem]:
    seen: list[object] = []
    for index, item in enumerate(place.children()):
        value = item.plain()
        if value in seen:
            yield Problem(item.line, item.column, (*path, index), f"{described(value)} stands here twice", "remove one")
        else:
            seen.append(value)
