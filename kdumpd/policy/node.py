"""The values of a policy file with their line and column.

Made by `composer`, read by `check` and `rules`. May import `scalars` alone.
"""

from __future__ import annotations

from typing import NamedTuple

from kdumpd.policy.scalars import Scalar, Surprise


class Node:
    """A value of the file with its position: `value` is a scalar, a list of nodes or a mapping of pairs.

    `broken`: a problem in it is already reported. `height` (levels below) and `count` (values, aliases counted at each
    use) are right once `closed`.
    """

    __slots__ = ("broken", "closed", "column", "count", "height", "line", "surprise", "value")

    def __init__(self, value: Scalar | list[Node] | dict[str, Pair], line: int, column: int) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.surprise: Surprise | None = None
        self.broken = False
        self.closed = False
        self.height = 0
        self.count = 1

    def children(self) -> list[Node]:
        """The nodes directly below this one."""
        if isinstance(self.value, dict):
            return [pair.node for pair in self.value.values()]
        return self.value if isinstance(self.value, list) else []

    def plain(self) -> object:
        """The value without positions: dict, list or scalar."""
        if isinstance(self.value, dict):
            return {key: pair.node.plain() for key, pair in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class Pair(NamedTuple):
    """A key's position and its value."""

    line: int
    column: int
    node: Node
