"""What the capture runner imports is known to the module: each costs time and memory that a capture kernel lacks."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import zstandard

import kdumpd
from tests.unit.capture.machines import Disks, crashed

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


def test_only_one_module_of_the_image_imports_ctypes() -> None:
    package = Path(kdumpd.__file__).parent
    paths = [package / f"{name.removeprefix('kdumpd.').replace('.', '/')}.py" for name in pinned("3.11")]
    users = [path for path in paths if path.is_file() and "import ctypes" in path.read_text()]
    assert users == [package / "capture" / "kernel.py"]


# A whole capture, its children included, with each import noted that the interpreter has not done yet.
WHOLE = """
import sys
root, vmcore, noted = sys.argv[1:4]
sys.path[:0] = sys.argv[4:]
import kdumpd.capture.__main__, kdumpd.capture.runner
import os
from kdumpd.capture.console import Console, uptime
from kdumpd.capture.machine import Machine
from kdumpd.target.device import Places

note = os.open(noted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(lambda event, values: os.write(note, values[0].encode() + b"\\n") if event == "import" else None)

def mount(device, directory, kind, options):
    os.rmdir(directory)
    os.symlink(root + "/disk0", directory)

start = uptime()
machine = Machine(
    settings=root + "/etc", vmcore=vmcore, command_line="/dev/null", mount_point=root + "/target",
    devices=Places(root + "/sys", root + "/dev"), mount=mount, sync=lambda directory: None, restart=lambda: None,
)
kdumpd.capture.runner.capture(machine, Console(lambda line: None, lambda: uptime() - start))
"""


def test_a_whole_capture_imports_nothing_else(tmp_path: Path) -> None:
    rig = Disks(tmp_path, crashed(tmp_path / "vmcore"))
    noted = tmp_path / "imports"
    folders = [str(Path(module.__file__ or "").parent.parent) for module in (kdumpd, zstandard)]
    command = [sys.executable, "-I", "-S", "-B", "-c", WHOLE, str(tmp_path), rig.machine.vmcore, str(noted), *folders]
    subprocess.run(command, check=True)
    assert rig.report()["complete"] is True
    before, _ = loaded()
    named = pinned(f"{sys.version_info.major}.{sys.version_info.minor}") | before
    # An attempt is noted too, of modules that other systems have; they cost nothing where they are not there.
    strange = {name for name in noted.read_text().split() if name not in named and importlib.util.find_spec(name)}
    assert not strange, f"imported while capturing, and not on {PINNED.name}: {sorted(strange)}"
