"""The kernel modules of one release: which file a name means, what it depends on, and the order to load them in.

Parsers take the text of depmod's files (modules.dep, modules.builtin, modules.softdep, modules.alias; modules.dep(5));
`ModuleIndex.read` is the only function here that touches the disk. Called by `image` and `rehearse`.
May import `errors` alone.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdumpd.errors import HostError

_WILDCARD = re.compile(r"[*?[]")
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def name_of(path: str) -> str:
    """A module's name from its file's: dashes and underscores are the same to the kernel."""
    base = path.rpartition("/")[2]
    for suffix in _SUFFIXES:
        base = base.removesuffix(suffix) if base.endswith(suffix) else base
    return base.replace("-", "_")


def parse_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """modules.dep: each module's own path followed by those it needs, in the order depmod lists them."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        path, colon, needed = line.partition(":")
        if colon:
            found[name_of(path)] = (path, *needed.split())
    return found


def parse_builtin(text: str) -> frozenset[str]:
    """modules.builtin: the names of what is linked into the kernel."""
    return frozenset(name_of(line) for line in text.split())


def parse_soft(text: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """modules.softdep: (loaded before, loaded after) of each module that names any."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0] != "softdep":
            continue
        before: list[str] = []
        after: list[str] = []
        into = before
        for word in words[2:]:
            if word in ("pre:", "post:"):
                into = before if word == "pre:" else after
            else:
                into.append(word)
        old = found.get(name_of(words[1]), ((), ()))
        found[name_of(words[1])] = ((*old[0], *before), (*old[1], *after))
    return found


def parse_aliases(text: str) -> tuple[tuple[str, str], ...]:
    """modules.alias: (pattern, module name) pairs in file order."""
    pairs = (line.split() for line in text.splitlines() if line.startswith("alias "))
    return tuple((words[1], name_of(words[2])) for words in pairs if len(words) == 3)


@dataclass(frozen=True)
class ModuleIndex:
    """Everything depmod knows about the modules under `directory` (/lib/modules/RELEASE)."""

    directory: Path
    dependencies: dict[str, tuple[str, ...]]
    builtin: frozenset[str]
    soft: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    aliases: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, directory: Path) -> ModuleIndex:
        """The index of a module directory; HostError when depmod never ran there."""

        def text(name: str) -> str:
            path = directory / name
            return path.read_text(errors="replace") if path.exists() else ""

        dependencies = parse_dependencies(text("modules.dep"))
        builtin = parse_builtin(text("modules.builtin"))
        if not dependencies and not builtin:
            raise HostError(
                f"{directory}: no modules.dep and no modules.builtin; install that kernel's modules, or run depmod"
            )
        return cls(
            directory, dependencies, builtin, parse_soft(text("modules.softdep")), parse_aliases(text("modules.alias"))
        )

    def knows(self, name: str) -> bool:
        """Whether the kernel has this module, built in or as a file."""
        plain = name.replace("-", "_")
        return plain in self.builtin or plain in self.dependencies

    def resolve(self, name: str) -> tuple[str, ...]:
        """The modules that a name or an alias means; empty when it is built in or unknown."""
        plain = name.replace("-", "_")
        if plain in self.dependencies:
            return (plain,)
        if plain in self.builtin:
            return ()
        # A kernel has 25,000 patterns: those that begin otherwise are not worth compiling.
        likely = (alias for alias in self.aliases if name.startswith(_WILDCARD.split(alias[0], 1)[0]))
        return tuple(dict.fromkeys(module for pattern, module in likely if fnmatch.fnmatchcase(name, pattern)))

    def load_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Paths relative to `directory`, each after what it needs, soft dependencies included; built-in names vanish.

        A device's modalias (it has a colon) that no module claims belongs to a driver that is built in. Raises
        HostError for a name that this kernel has neither built in nor as a module.
        """
        order: dict[str, None] = {}
        visiting: set[str] = set()

        def add(name: str) -> None:
            if name in visiting:
                return
            visiting.add(name)
            path, *needed = self.dependencies[name]
            before, after = self.soft.get(name, ((), ()))
            for soft in before:
                for module in self.resolve(soft):
                    add(module)
            for hard in reversed(needed):
                add(name_of(hard))
            order[path] = None
            for soft in after:
                for module in self.resolve(soft):
                    add(module)

        for name in names:
            modules = self.resolve(name)
            if not modules and ":" not in name and not self.knows(name):
                raise HostError(
                    f"{self.directory}: this kernel has no module {name}; install the package with its modules"
                )
            for module in modules:
                add(module)
        return tuple(order)
