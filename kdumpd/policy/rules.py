"""What a policy must obey that a schema cannot say: units in bounds, paths, words, orders, duplicates, overlaps.

Each rule looks at one key's value and yields problems; a value that the schema already refused is left alone. Called
by `check`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kdumpd.policy import units
from kdumpd.policy.node import Node
from kdumpd.policy.problem import Path, Problem, described, quoted

LONGEST_TIME = 168 * 3600
# x86-64 and aarch64 have at most 52 bits of physical address.
ADDRESS_LIMIT = 1 << 52
# Sizes go to system calls as signed 64-bit numbers.
SIZE_LIMIT = 1 << 63
LONGEST_COMMAND_LINE = 1024

_TERMINAL = frozenset({"reboot", "poweroff", "halt"})
_WORD = re.compile(r"[!#-&(-~]+")
_VOLATILE = ("/proc", "/sys", "/dev", "/run")
# Parameters that have a key of their own, or that the loader and the image need for themselves.
_OWNED = {
    "memmap": "use memmap hints, which are checked against the reservation",
    "kdumpd_scan.map": "use memmap hints of kind map, which are checked as well",
    "nr_cpus": "use capture_kernel.cpus",
    "maxcpus": "use capture_kernel.cpus",
    "crashkernel": "leave it out: the capture kernel must not reserve memory again",
    "elfcorehdr": "leave it out: the loader passes it",
    "rdinit": "leave it out: the image's own /init captures the dump",
}

Judge = Callable[["Place"], Iterator[Problem]]


class Place(NamedTuple):
    """A node, its path, the paths that are already reported, and whether the file was read to its end."""

    node: Node
    path: Path
    bad: frozenset[Path]
    complete: bool

    def key(self, name: str) -> Place | None:
        """The value of a key if it is there and nothing is wrong with it."""
        if not isinstance(self.node.value, dict) or name not in self.node.value:
            return None
        return self._below(name, self.node.value[name].node)

    def items(self) -> list[Place]:
        """The items of a list with which nothing is wrong."""
        if not isinstance(self.node.value, list):
            return []
        found = [self._below(index, node) for index, node in enumerate(self.node.value)]
        return [place for place in found if place is not None]

    def text(self) -> str:
        """The text that stands here, "" for anything else."""
        return self.node.value if isinstance(self.node.value, str) else ""

    def problem(self, wrong: str, right: str) -> Problem:
        return Problem(self.node.line, self.node.column, self.path, wrong, right)

    def _below(self, step: str | int, node: Node) -> Place | None:
        path = (*self.path, step)
        return None if node.broken or path in self.bad else Place(node, path, self.bad, self.complete)


def problems(node: Node, path: Path, bad: frozenset[Path], complete: bool) -> Iterator[Problem]:
    """The problems at and below a node that stands at a path."""
    here = Place(node, path, bad, complete)
    if node.broken or path in bad:
        return
    judge = _JUDGES.get(tuple("*" if isinstance(step, int) else step for step in path))
    if judge is not None:
        yield from judge(here)
    if isinstance(node.value, dict):
        for key, pair in node.value.items():
            yield from problems(pair.node, (*path, key), bad, complete)
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            yield from problems(item, (*path, index), bad, complete)


def _time(place: Place) -> Iterator[Problem]:
    try:
        seconds = units.parse_time(place.text())
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= LONGEST_TIME:
        yield place.problem(f"{described(place.node.value)} is out of bounds", "write a time from 1s to 168h")


def _size(place: Place, limit: int, least: int) -> Iterator[Problem]:
    value = place.node.value
    if value == units.UNLIMITED:
        return
    size = value if isinstance(value, int) else _size_of(place.text())
    if size is None or not least <= size < limit:
        right = f"write a size from {least} to below 2^{limit.bit_length() - 1} bytes"
        yield place.problem(f"{described(value)} is out of bounds", right)


def _size_of(text: str) -> int | None:
    try:
        return units.parse_size(text)
    except ValueError:
        return None


def _directory(place: Place) -> Iterator[Problem]:
    path = place.text()
    parts = path.split("/")
    if ".." in parts:
        yield place.problem(f"{quoted(path)} goes upwards", "write the path without ..")
    elif any(len(part.encode()) > 255 for part in parts) or len(path.encode()) > 4095:
        yield place.problem("the path is longer than a file system allows", "write a shorter path")
    else:
        plain = normal_path(path)
        for root in _VOLATILE:
            if plain == root or plain.startswith(root + "/"):
                yield place.problem(f"{root} is not on a disk", "write a directory that is still there after a reboot")


def normal_path(path: str) -> str:
    """An absolute path without doubled or trailing slashes and without `.`."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _targets(place: Place) -> Iterator[Problem]:
    seen: dict[str, Path] = {}
    for item in place.items():
        path = item.key("path")
        if path is None:
            continue
        plain = normal_path(path.text())
        if plain in seen:
            yield path.problem(f"{quoted(plain)} is a target already (number {seen[plain][1]})", "name another one")
        else:
            seen[plain] = item.path


def _actions(place: Place) -> Iterator[Problem]:
    """A failure goes through the list once, and must come to an end."""
    items = place.items()
    if len(items) != len(place.node.children()):
        return
    seen: set[str] = set()
    for index, item in enumerate(items):
        action = item.text()
        last = index == len(items) - 1
        if action in seen:
            yield item.problem(f"{action} stands here twice", "remove one")
        elif action in _TERMINAL and not last:
            yield item.problem(f"nothing runs after {action}", f"make {action} the last action, or remove it")
        elif action == "next-target" and "dmesg-only" in seen:
            yield item.problem("next-target comes after dmesg-only, which settles for the log", "write it before")
        elif last and action not in _TERMINAL and place.complete:
            right = "end the list in reboot, poweroff or halt"
            yield item.problem(f"the list ends in {action}, which ends nothing", right)
        seen.add(action)


def _word(place: Place) -> Iterator[Problem]:
    word = place.text()
    if not _WORD.fullmatch(word):
        bad = next((char for char in word if not _WORD.fullmatch(char)), "")
        wrong = f"{quoted(word)} holds {quoted(bad)}"
        right = "write each parameter as a list item of its own" if bad == " " else "write printable ASCII, no quotes"
        yield place.problem(wrong, right)
    elif word == "--":
        yield place.problem('"--" ends the parameters of the kernel', "remove it")


def _appended(place: Place) -> Iterator[Problem]:
    seen: set[str] = set()
    for item in place.items():
        word = item.text()
        owner = _OWNED.get(word.partition("=")[0].replace("-", "_"))
        if owner:
            yield item.problem(f"{quoted(word)} is not for this list", owner)
        elif word in seen:
            yield item.problem(f"{quoted(word)} stands here twice", "remove one")
        seen.add(word)
    length = sum(len(item.text()) + 1 for item in place.items())
    if length > LONGEST_COMMAND_LINE:
        wrong = f"these words take {length} characters of the command line"
        yield place.problem(wrong, f"at most {LONGEST_COMMAND_LINE} are safe: remove some")


def _removed(place: Place) -> Iterator[Problem]:
    seen: set[str] = set()
    for item in place.items():
        if item.text() in seen:
            yield item.problem(f"{quoted(item.text())} stands here twice", "remove one")
        seen.add(item.text())


def _hint(place: Place) -> Iterator[Problem]:
    """A hint names its memory in one way, and completely."""
    keys = place.node.value if isinstance(place.node.value, dict) else {}
    numbers = [key for key in ("start", "size") if key in keys]
    if "range" in keys:
        for key in numbers:
            pair = keys[key]
            wrong = f"{key} stands beside range"
            yield Problem(pair.line, pair.column, (*place.path, key), wrong, "write range, or start and size")
    elif place.complete and len(numbers) < 2:
        missing = "range, or start and size" if not numbers else "size" if numbers == ["start"] else "start"
        yield place.problem("the hint does not say which memory", f"add {missing}")
    extent = _extent(place)
    if extent and extent[1] > ADDRESS_LIMIT and extent[0] < ADDRESS_LIMIT > extent[1] - extent[0]:
        yield place.problem("the range ends above 2^52", "write a smaller start or size")


def _extent(place: Place) -> tuple[int, int] | None:
    """Start and end of a hint by number."""
    start, size = place.key("start"), place.key("size")
    if start is None or size is None:
        return None
    first, length = (
        value if isinstance(value, int) else _size_of(value) if isinstance(value, str) else None
        for value in (start.node.value, size.node.value)
    )
    return (first, first + length) if first is not None and length is not None else None


def _hints(place: Place) -> Iterator[Problem]:
    """Hints of different kinds must not overlap; those of one kind are merged."""
    seen: list[tuple[int, int, str, int]] = []
    for item in place.items():
        kind, extent = item.key("kind"), _extent(item)
        if kind is None or extent is None:
            continue
        index = item.path[-1]
        assert isinstance(index, int)
        for start, end, other, number in seen:
            if start < extent[1] and extent[0] < end and other != kind.text():
                wrong = f"overlaps memmap[{number}], which is {other}"
                yield item.problem(wrong, "keep the ranges of different kinds apart")
                break
        else:
            seen.append((*extent, kind.text(), index))


def _whole(place: Place) -> Iterator[Problem]:
    """What one key says must have an effect beside what the others say."""
    scan, memmap = place.key("scan"), place.key("memmap")
    engine = scan.key("engine") if scan else None
    if memmap is None or engine is None or engine.text() != "user":
        return
    for hint in memmap.items():
        kind = hint.key("kind")
        if kind is not None and kind.text() == "map":
            wrong = "map has no effect beside scan.engine: user, which leaves kdumpd_scan out"
            yield kind.problem(wrong, "remove the hint, or write scan.engine: auto")


_JUDGES: dict[Path, Judge] = {
    (): _whole,
    ("time_budget",): _time,
    ("targets",): _targets,
    ("targets", "*", "path"): _directory,
    ("on_failure",): _actions,
    ("capture_kernel", "append"): _appended,
    ("capture_kernel", "append", "*"): _word,
    ("capture_kernel", "remove"): _removed,
    ("capture_kernel", "remove", "*"): _word,
    ("memmap",): _hints,
    ("memmap", "*"): _hint,
    ("memmap", "*", "start"): lambda place: _size(place, ADDRESS_LIMIT, 0),
    ("memmap", "*", "size"): lambda place: _size(place, ADDRESS_LIMIT, 1),
    ("retention", "max_size"): lambda place: _size(place, SIZE_LIMIT, 1),
    ("retention", "min_free"): lambda place: _size(place, SIZE_LIMIT, 0),
}
