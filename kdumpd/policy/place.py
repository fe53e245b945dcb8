"""Where each value of a policy file stands, so that a change can be shown with its line.

Called by `plan.source`. May import `document`, `node` and `problem`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kdumpd.policy.document import parse
from kdumpd.policy.node import Node
from kdumpd.policy.problem import Path, dotted


def lines(data: bytes) -> Mapping[str, int]:
    """The line, from 1, of each scalar and each list that stands in the file, by dotted path."""
    root = parse(data).root
    return {} if root is None else {dotted(path): line for path, line in _walk(root, ())}


def _walk(node: Node, path: Path) -> Iterator[tuple[Path, int]]:
    if isinstance(node.value, dict):
        for key, pair in node.value.items():
            if isinstance(pair.node.value, dict):
                yield from _walk(pair.node, (*path, key))
            else:
                yield (*path, key), pair.line
