"""What the result of a file of tests depends on: `make matrix` runs again what a commit may have changed, and no more.

All depend on what reaches the capture kernel and on what tests share. Left out for a file of tests is what serves a
running machine alone (SERVER), where it neither runs kdumpd's verbs or packages nor imports it; programs for the
capture kernel that it does not name; unit tests that it imports nothing of. Pure but for reading imports.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("tests/vm/", "tests/fault/")
SUBJECT = (
    *("kdumpd", "kmod", "dracut", "config", "units", "packaging", "pyproject.toml"),
    *("tests/vm", "tests/fault", "tests/lab", "tests/builders", "tests/unit"),
)
SERVER = (
    *("kdumpd/cli/", "kdumpd/service/", "kdumpd/status/", "kdumpd/dumps/", "kdumpd/plan/", "kdumpd/prove/"),
    *("config/json/", "units/", "packaging/", "pyproject.toml"),
)
PROGRAMS = "tests/lab/programs/"
RUNS_VERBS = re.compile(r'kdumpd\.cli|-m kdumpd|"-m", "kdumpd"|tests\.lab\.system|tests\.vm\.installed|packaging')


def is_test(path: str) -> bool:
    """Whether nothing but its own tests depends on this file."""
    return path.startswith(FOLDERS) and Path(path).name.startswith("test_")


def imported(path: str, root: Path = ROOT) -> set[str]:
    """The files of the repository that importing this one may load, itself among them; imports in functions too."""
    seen: set[str] = set()
    todo = [path]
    while todo:
        if (one := todo.pop()) in seen:
            continue
        seen.add(one)
        for name in _names(ast.parse((root / one).read_text())):
            base = name.replace(".", "/")
            todo += [file for file in (f"{base}.py", f"{base}/__init__.py") if (root / file).is_file()]
    return seen


def holds_for(test: str, files: Mapping[str, str], root: Path = ROOT) -> str:
    """Changes when a file does that the results of this file of tests depend on; `files` are hashes by path."""
    closure = imported(test, root)
    own = [(root / path).read_text() for path in closure if not path.startswith("kdumpd/")]
    for path in files:
        if path.startswith(PROGRAMS) and any(Path(path).name in text for text in own):
            closure |= imported(path, root)
    runs_verbs = any(RUNS_VERBS.search(text) for text in own)
    reached = {folder for folder in SERVER if runs_verbs or any(path.startswith(folder) for path in closure)}
    left_out = tuple(folder for folder in SERVER if folder not in reached)

    def counts(path: str) -> bool:
        if is_test(path) or path.startswith((PROGRAMS, "tests/unit/")):
            return path in closure
        return not path.startswith(left_out)

    needed = (path for path in files if counts(path))
    lines = "\n".join(f"{files[path]} {path}" for path in sorted(needed))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def _names(module: ast.Module) -> Iterable[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
