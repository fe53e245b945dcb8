"""A YAML file as a tree of nodes that know their line and column, with everything that is wrong with it as YAML.

`check` validates the tree. May import `text`, `composer`, `node`, `problem` and PyYAML.
"""

from __future__ import annotations

from typing import NamedTuple

import yaml

from kdumpd.policy.composer import Composer, TooMuchError
from kdumpd.policy.node import Node
from kdumpd.policy.problem import Path, Problem
from kdumpd.policy.text import decode

# libyaml's parser where PyYAML was built with it: ten times faster than the one in Python.
FASTEST_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """What a file holds; `root` is None for an empty one.

    `complete` is false when a problem ended the reading early; `repeated` holds the values of keys given twice.
    """

    root: Node | None
    problems: tuple[Problem, ...]
    complete: bool
    repeated: tuple[tuple[Path, Node], ...] = ()


def parse(data: bytes, loader: type[yaml.SafeLoader | yaml.CSafeLoader] = FASTEST_LOADER) -> Document:
    """The file's tree and its problems as YAML; never raises, whatever the bytes."""
    text = decode(data)
    if text.text is None:
        return Document(None, text.problems, complete=False)
    composer = Composer()
    complete = False
    problems = [*text.problems]
    try:
        for event in yaml.parse(text.text, Loader=loader):
            composer.take(event)
        complete = True
    except TooMuchError:
        pass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        composer.distrust(line)
        if not any(abs(line - tab) <= 1 for tab in text.tabs):
            wrong = f"not YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
            right = "check the quotes, brackets, colons and indentation here and just above"
            problems.append(Problem(line, column, composer.path(), wrong, right))
    return Document(composer.root, (*problems, *composer.problems), complete, tuple(composer.repeated))
