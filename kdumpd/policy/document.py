"""A YAML file as a tree of nodes that know their line and column, with everything that is wrong with it as YAML.

Built from YAML's events, so that no object is ever constructed from a tag, an alias cannot explode, and depth and size
are bounded while reading. `check` validates the tree. May import `problem`, `scalars` and PyYAML.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from kdumpd.policy.problem import Path, Problem, quoted
from kdumpd.policy.scalars import Scalar, Surprise, read

LARGEST_FILE = 256 * 1024
DEEPEST = 50
MOST_VALUES = 2_000

# libyaml's parser where PyYAML was built with it: ten times faster than the one in Python.
FASTEST_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_NOT_TEXT = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TAB_INDENT = re.compile(r" *\t\s*[^\s#]")
_ALIAS_RIGHT = "write the value out where it is needed"


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
    if len(data) > LARGEST_FILE:
        wrong = f"the file is larger than {LARGEST_FILE // 1024} KiB"
        return Document(None, (Problem(1, 1, (), wrong, "a policy takes a few lines: remove the rest"),), False)
    text, problems = _decoded(data)
    unreadable = _NOT_TEXT.search(text)
    if unreadable:
        line, column = _position(text, unreadable.start())
        wrong = f"the character U+{ord(unreadable[0]):04X} is not text"
        problems.append(Problem(line, column, (), wrong, "a policy is a text file: remove the character"))
        return Document(None, tuple(problems), False)
    tabs = {
        number: line.index("\t") + 1
        for number, line in enumerate(_LINE_BREAK.split(text), start=1)
        if _TAB_INDENT.match(line)
    }
    problems += [
        Problem(line, column, (), "a tab in the indentation", "indent with spaces") for line, column in tabs.items()
    ]
    composer = _Composer(problems)
    try:
        for event in yaml.parse(text, Loader=loader):
            composer.take(event)
    except _TooMuchError:
        return composer.document(complete=False)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        composer.distrust(line)
        if not any(abs(line - tab) <= 1 for tab in tabs):
            wrong = f"not YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
            right = "check the quotes, brackets, colons and indentation here and just above"
            problems.append(Problem(line, column, composer.path(), wrong, right))
        return composer.document(complete=False)
    return composer.document(complete=True)


def _decoded(data: bytes) -> tuple[str, list[Problem]]:
    """The text, and a problem for each line that is not UTF-8 (such a byte reads as U+FFFD)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", [Problem(1, 1, (), "the file is UTF-16", "save it as UTF-8")]
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode(), []
    except UnicodeDecodeError:
        problems = []
        for number, line in enumerate(re.split(b"\r\n|\r|\n", data), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                column = len(line[: error.start].decode()) + 1
                wrong = f"the byte 0x{line[error.start]:02x} is not UTF-8"
                problems.append(Problem(number, column, (), wrong, "save the file as UTF-8"))
        return data.decode(errors="replace"), problems


def _position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset into the text."""
    breaks = [match.end() for match in _LINE_BREAK.finditer(text, 0, offset)]
    return len(breaks) + 1, offset - (breaks[-1] if breaks else 0) + 1


class _TooMuchError(Exception):
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


class _Composer:
    """Turns events into nodes, one event at a time, and keeps what it has when the events end early."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.root: Node | None = None
        self.last: Node | None = None
        self.frames: list[_Frame] = []
        self.anchors: dict[str, Node] = {}
        self.repeated: list[tuple[Path, Node]] = []
        self.documents = 0
        self.values = 0

    def document(self, complete: bool) -> Document:
        return Document(self.root, tuple(self.problems), complete, tuple(self.repeated))

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
        raise _TooMuchError

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


def _is_plain(event: yaml.ScalarEvent) -> bool:
    """Whether a scalar stands without quotes; libyaml gives such a one the style "", PyYAML's own parser None."""
    return not event.style and event.implicit[0]


def _tag_name(tag: str) -> str:
    """A tag in its short form, in quotes."""
    return quoted(tag.replace("tag:yaml.org,2002:", "!!", 1))
