"""What the capture runner imports is known to the module: each costs time and memory that a capture kernel lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import zstandard

import kdumpd

PINNED = Path(__file__).with_name("import_closure.txt")

# zstandard is imported when the first page is compressed; everything else before the first step.
PROBE = """
import sys
before = set(sys.modules)
sys.path[:0] = sys.argv[1:]
import kdumpd.capture.__main__, kdumpd.capture.runner, zstandard
added = set(sys.modules) - before
import json
print(json.dumps([sorted(before), sorted(added)]))
"""


def pinned(version: str) -> set[str]:
    """The modules that the list names for this version of Python."""
    lines = [line.split() for line in PINNED.read_text().splitlines() if not line.startswith("#")]
    return {name for name, *versions in lines if not versions or version in versions}


def loaded() -> tuple[set[str], set[str]]:
    """(what an isolated interpreter has at its start, what the runner adds)."""
    folders = [str(Path(module.__file__ or "").parent.parent) for module in (kdumpd, zstandard)]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", PROBE, *folders], check=True, capture_output=True, text=True
    )
    before, added = json.loads(run.stdout)
    return set(before), set(added)


def test_the_runner_imports_exactly_what_is_listed() -> None:
    before, added = loaded()
    wanted = pinned(f"{sys.version_info.major}.{sys.version_info.minor}") - before
    assert added == wanted, (
        f"the capture runner now imports {sorted(added - wanted)} and no more {sorted(wanted - added)}; "
        f"if each is worth its time and its place in the image, change {PINNED.name}"
    )


def test_nothing_heavy_is_on_the_list() -> None:
    heavy = {
        "argparse",
        "logging",
        "subprocess",
        "pathlib",
        "shutil",
        "datetime",
        "tempfile",
        "yaml",
        "elftools",
        "rich",
    }
    assert not heavy & {name.partition(".")[0] for name in pinned("3.11") | pinned("3.13")}


def test_only_one_module_imports_ctypes() -> None:
    package = Path(kdumpd.__file__).parent
    users = [path for path in package.rglob("*.py") if "import ctypes" in path.read_text()]
    assert [str(path.relative_to(package)) for path in users] == ["capture/kernel.py"]
