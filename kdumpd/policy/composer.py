"""YAML's events turned into nodes, bounded in depth and number while they come.

No object is ever constructed from a tag, and an alias is the node it names, so that none can explode. Called by
`document`. May import `problem`, `node`, `scalars` and PyYAML.
"""

from __future__ import annotations

import re

import yaml

from kdumpd.policy.node import Node, Pair
from kdumpd.policy.problem import Path, Problem, quoted
from kdumpd.policy.scalars import read

DEEPEST = 50
MOST_VALUES = 2_000

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ALIAS_RIGHT = "write the value out where it is needed"


class TooMuchError(Exception):
    """Reading stops here; the problem is recorded."""


class _Frame:
    """An open list or mapping; `key` is the key that waits for its value, `skipped` when that value is dropped."""

    __slots__ = ("key", "key_column", "key_line", "node", "path", "skipped")

    def __init__(self, node: Node, path: Path) -> None:
        self.node = node
        self.path = path
        self.key: str | None = None
        self.key_line = 0
        self.key_column = 0
        self.skipped = False


class Composer:
    """Turns events into nodes, one event at a time, and keeps what it has when the events end early."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self.last: Node | None = None
        self.frames: list[_Frame] = []
        self.anchors: dict[str, Node] = {}
        self.repeated: list[tuple[Path, Node]] = []
        self.documents = 0
        self.values = 0

    def path(self) -> Path:
        """The path of the next value."""
        if not self.frames:
            return ()
        frame = self.frames[-1]
        if isinstance(frame.node.value, list):
            return (*frame.path, len(frame.node.value))
        return frame.path if frame.key is None else (*frame.path, frame.key)

    def distrust(self, line: int) -> None:
        """Leave the last value alone when the syntax error on its line makes it something else than was meant."""
        if self.last is not None and self.last.line == line:
            self.last.broken = True

    def take(self, event: yaml.Event) -> None:
        """Carry one event of the file into the tree."""
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._stop(event, "a second document starts here", "a policy is one document: remove this line")
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(event, [])
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node = self.frames.pop().node
            node.height = 1 + max((child.height for child in node.children()), default=0)
            node.count = 1 + sum(child.count for child in node.children())
            node.closed = True

    def _problem(self, event: yaml.Event, wrong: str, right: str) -> None:
        line, column = _start(event)
        self.problems.append(Problem(line, column, self.path(), wrong, right))

    def _stop(self, event: yaml.Event, wrong: str, right: str) -> None:
        line, column = _start(event)
        self.problems.append(Problem(line, column, (), wrong, right))
        raise TooMuchError

    def _wants_key(self) -> bool:
        frame = self.frames[-1] if self.frames else None
        return frame is not None and isinstance(frame.node.value, dict) and frame.key is None and not frame.skipped

    def _count(self, event: yaml.Event, values: int, height: int) -> None:
        if len(self.frames) + height > DEEPEST:
            self._stop(event, f"nested deeper than {DEEPEST} levels", "a policy needs 4: write it flat")
        self.values += values
        if self.values > MOST_VALUES:
            wrong = f"more than {MOST_VALUES} values, aliases counted wherever they are used"
            self._stop(event, wrong, "a policy takes a few lines: remove the rest")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._count(event, 1, 0)
        if self._wants_key():
            self._key(event)
            return
        line, column = _start(event)
        reading = read(event.value, plain=_is_plain(event))
        node = Node(reading.value, line, column)
        node.surprise = reading.surprise
        node.closed = True
        self._tag(event, node)
        control = _CONTROL.search(event.value)
        if control and not node.broken:
            node.broken = True
            what = "a line break" if control[0] == "\n" else f"the control character U+{ord(control[0]):04X}"
            self._problem(event, f"the text holds {what}", "write it on one line, in printable characters")
        elif not node.broken and _lines(event) > 1:
            # Most often the line after it is a key that is indented too far.
            node.broken = True
            self._problem(event, "the text runs over several lines", "write it on one line, and indent keys alike")
        self._place(node, event.anchor)

    def _key(self, event: yaml.ScalarEvent) -> None:
        frame = self.frames[-1]
        if event.value == "<<" and _is_plain(event):
            self._problem(event, "merge keys (<<) are not read", "write the keys out")
            frame.skipped = True
            return
        if event.tag is not None:
            self._problem(event, f"the tag {_tag_name(event.tag)} on a key", "remove the tag")
        frame.key = event.value
        frame.key_line, frame.key_column = _start(event)

    def _open(
        self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, value: list[Node] | dict[str, Pair]
    ) -> None:
        self._count(event, 1, 1)
        line, column = _start(event)
        node = Node(value, line, column)
        self._tag(event, node)
        path = self.path()
        if self._wants_key():
            self._problem(event, "a list or mapping as a key", "a key is one word")
            self.frames[-1].skipped = True
        else:
            self._place(node, event.anchor)
        self.frames.append(_Frame(node, path))

    def _tag(self, event: yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent, node: Node) -> None:
        if event.tag is not None:
            node.broken = True
            self._problem(
                event, f"the tag {_tag_name(event.tag)} is not allowed", "remove the tag and write the plain value"
            )

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = quoted(str(event.anchor))
        target = self.anchors.get(str(event.anchor))
        if self._wants_key():
            self._problem(event, "an alias as a key", "write the key out")
            self.frames[-1].skipped = True
            return
        line, column = _start(event)
        if target is None or not target.closed:
            why = "names no anchor" if target is None else "holds itself"
            self._problem(event, f"the alias {name} {why}", _ALIAS_RIGHT)
            target = Node(None, line, column)
            target.broken = True
        self._count(event, target.count, target.height)
        self._place(target, None)

    def _place(self, node: Node, anchor: str | None) -> None:
        """Put a value where it belongs: in the root, the open list, or under the key that waits for it."""
        self.last = node
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.frames:
            self.root = node
            return
        frame = self.frames[-1]
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
        elif isinstance(frame.node.value, dict) and frame.key is not None:
            first = frame.node.value.get(frame.key)
            if first is not None:
                path = (*frame.path, frame.key)
                wrong = f"given twice (first on line {first.line})"
                self.problems.append(Problem(frame.key_line, frame.key_column, path, wrong, "keep one of the two"))
                self.repeated.append((path, node))
            else:
                frame.node.value[frame.key] = Pair(frame.key_line, frame.key_column, node)
        frame.key = None
        frame.skipped = False


def _start(event: yaml.Event) -> tuple[int, int]:
    """Line and column, from 1, where an event starts."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _lines(event: yaml.ScalarEvent) -> int:
    """How many lines of the file an unquoted or quoted scalar takes."""
    end = event.end_mark
    return end.line + 2 - _start(event)[0] if end and event.style not in ("|", ">") else 1


def _is_plain(event: yaml.ScalarEvent) -> bool:
    """Whether a scalar stands without quotes; libyaml gives such a one the style "", PyYAML's own parser None."""
    return not event.style and event.implicit[0]


def _tag_name(tag: str) -> str:
    """A tag in its short form, in quotes."""
    return quoted(tag.replace("tag:yaml.org,2002:", "!!", 1))
