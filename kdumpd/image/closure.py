"""The import closure of the capture runner: every module that the image must carry, and no other.

kdumpd's own imports are followed in the source, so that one inside a function counts too; what they load of the
standard library and of zstandard is then listed by a fresh interpreter. Called by `image.build` and by the test
that pins the closure. May import `host` and `errors`.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import kdumpd
from kdumpd.errors import ImageError
from kdumpd.host import program

#: What the image's /init imports.
ENTRY = "kdumpd.capture.__main__"

#: Codecs that no import statement names: the interpreter looks them up when a file is opened in one.
CODECS = ("encodings.ascii", "encodings.latin_1", "encodings.utf_8")


class Program(NamedTuple):
    """The Python program that the image will run: the interpreter, kdumpd's folder, and where zstandard is."""

    interpreter: Path
    package: Path
    zstandard: Path
    entry: str = ENTRY


class Module(NamedTuple):
    """A module of the closure; `kind` is source, extension, frozen or builtin, `file` its source or library."""

    name: str
    kind: str
    file: str


def running() -> Program:
    """The program that runs now: this interpreter outside any virtual environment, and this kdumpd."""
    # CPython keeps the path of the interpreter that a virtual environment stands on here (Lib/site.py, venv()).
    base: str = getattr(sys, "_base_executable", sys.executable)
    spec = importlib.util.find_spec("zstandard")
    if spec is None or spec.origin is None:
        raise ImageError("zstandard: this interpreter cannot import it; install python3-zstandard")
    return Program(Path(base).resolve(), Path(kdumpd.__file__).parent, Path(spec.origin).parent.parent)


class _Imports(NamedTuple):
    own: set[str]
    required: set[str]
    optional: set[str]


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _collect(node: ast.AST, found: _Imports, optional: bool) -> None:
    """Every import below a node; those guarded by `try` may fail, those for the type checker do not count."""
    for child in ast.iter_child_nodes(node):
        names: list[str] = []
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for branch in child.orelse:
                _collect(branch, found, optional)
            continue
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and child.module is not None:
            names = [child.module]
            if child.module.split(".")[0] == "kdumpd":
                names += [f"{child.module}.{alias.name}" for alias in child.names]
        for name in names:
            if name.split(".")[0] == "kdumpd":
                found.own.add(name)
            elif name != "__future__":
                (found.optional if optional else found.required).add(name)
        _collect(child, found, optional or isinstance(child, ast.Try))


def _source_of(package: Path, name: str) -> Path | None:
    base = package.parent.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def followed(package: Path, entry: str) -> tuple[dict[str, Path], frozenset[str], frozenset[str]]:
    """(kdumpd's modules reached from `entry`, what else they must import, what else they may import)."""
    reached: dict[str, Path] = {}
    found = _Imports({entry}, set(), set())
    while found.own:
        name = found.own.pop()
        path = _source_of(package, name)
        if path is None or name in reached:
            continue
        reached[name] = path
        if "." in name:
            found.own.add(name.rpartition(".")[0])
        _collect(ast.parse(path.read_bytes(), str(path)), found, optional=False)
    if entry not in reached:
        raise ImageError(f"{package}: has no {entry}; reinstall kdumpd")
    return reached, frozenset(found.required), frozenset(found.optional - found.required)


def closure(of: Program) -> tuple[Module, ...]:
    """Every module of the image by name: kdumpd's, zstandard's and the standard library's.

    Raises ImageError when the interpreter cannot import one of them.
    """
    own, required, optional = followed(of.package, of.entry)
    # The image's PID 1 has no environment: neither has this.
    folders = os.pathsep.join((str(of.package.parent), str(of.zstandard)))
    own_names = sorted(name for name in own if not name.endswith(".__main__"))
    outcome = program.run(
        [
            str(of.interpreter),
            "-ISB",
            str(Path(__file__).with_name("probe.py")),
            folders,
            ",".join((*CODECS, *sorted(required), *own_names)),
            ",".join(sorted(optional)),
        ]
    )
    if outcome.code != 0:
        raise ImageError(f"{of.interpreter}: cannot import what the capture runner needs: {outcome.complaint}")
    listed = {name: Module(name, kind, file) for name, kind, file in json.loads(outcome.output)}
    # The script's own json is not counted before the listing; an entry module is never imported, only compiled.
    listed.update({name: Module(name, "source", str(path)) for name, path in own.items()})
    return tuple(listed[name] for name in sorted(listed))
