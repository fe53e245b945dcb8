"""The initrd of a capture kernel that runs a test's program: the image's own interpreter, busybox, modules, peers.

Called by `inside`; imports kdumpd.image and rehearse.
"""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from kdumpd.image import closure, interpreter
from kdumpd.rehearse.initrd import Initrd, has_module
from kdumpd.rehearse.kernels import Kernel
from tests.lab import foreign_python, peers
from tests.lab.crash import CAPTURE_MODULES, HEAD_PAGES, SOFT_MODULES, busybox
from tests.lab.recipes import Recipe

GUEST = Path(__file__).parent / "inside"
PROGRAMS = Path(__file__).parent / "programs"
OUT_MODULES = ("ext4",)
ENTRY = "from kdumpd.inside_program import main as program\nfrom kdumpd.inside_run import run\n\n\n"
ENTRY += "def main():\n    return run(program)\n"
# The kernel unpacks with a buffer of the frame's window.
PACKED = zstandard.ZstdCompressionParameters.from_level(3, window_log=17)


@dataclass(frozen=True)
class Capture:
    """The capture kernel's side of a run.

    `module` says whether kdumpd_scan, built for this kernel, is there; it is loaded with these `parameters` before the
    program starts, but where they are None the program does that, and finds it as /kdumpd_scan.ko. `modules` are loaded
    first; `files` are put at these paths. `makedumpfile` names the Debian suite whose makedumpfile lies in /bin.
    """

    processors: int = 1
    append: str = ""
    module: bool = True
    parameters: str | None = ""
    modules: tuple[str, ...] = ()
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    makedumpfile: str = ""


def image(
    recipe: Recipe,
    kernel: Kernel,
    program: Path | str,
    arguments: Mapping[str, Any],
    capture: Capture,
    module: Path | None,
    keep_head: bool,
) -> bytes:
    """The initrd, packed as the image is; `program` is a file, or its text."""
    initrd = Initrd()
    initrd.copy(busybox(recipe.architecture), "/bin/busybox")
    for folder in ("lib", "lib64"):
        initrd.link(f"/{folder}", f"usr/{folder}")
    initrd.file("/init", (GUEST / "capture.sh").read_bytes(), 0o755)
    parameters = "none" if capture.parameters is None else f"'{capture.parameters}'"
    initrd.file("/recipe", f"HEAD_PAGES={HEAD_PAGES if keep_head else 0}\nPARAMETERS={parameters}\n")
    initrd.file("/arguments.json", json.dumps(arguments))
    soft = [name for name in SOFT_MODULES if has_module(kernel, name)]
    initrd.module_tree(kernel, [*soft, *CAPTURE_MODULES, *OUT_MODULES, *capture.modules])
    if module is not None:
        initrd.copy(module, "/kdumpd_scan.ko")
    if capture.makedumpfile:
        _add_peer(initrd, peers.makedumpfile(capture.makedumpfile), "makedumpfile")
    with tempfile.TemporaryDirectory(prefix="kdumpd-inside-") as folder:
        _write_sources(program, Path(folder) / "source")
        _stage_program(Path(folder), recipe.architecture, initrd)
    for path, content in capture.files.items():
        if isinstance(content, Path):
            initrd.copy(content, path)
        else:
            initrd.file(path, content)
    return zstandard.ZstdCompressor(compression_params=PACKED).compress(initrd.to_bytes())


def _write_sources(program: Path | str, source: Path) -> None:
    """The program as a module of kdumpd, with kdumpd itself and the tests' other programs, lies in `source`."""
    root = Path(__file__).parent.parent.parent
    package = source / "kdumpd"
    shutil.copytree(root / "kdumpd", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(GUEST / "run.py", package / "inside_run.py")
    text = program.read_text() if isinstance(program, Path) else program
    (package / "inside_program.py").write_text(text)
    (package / "inside.py").write_text(ENTRY)
    for path in (root / "tests/__init__.py", root / "tests/lab/__init__.py", *PROGRAMS.glob("*.py")):
        copy = source / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


def _stage_program(scratch: Path, architecture: str, initrd: Initrd) -> None:
    """The interpreter and what the program imports, as `image.interpreter` lays them out."""
    if architecture != "amd64":
        foreign_python.stage(scratch / "source", "kdumpd.inside", architecture, initrd)
        return
    of = closure.running()._replace(package=scratch / "source" / "kdumpd", entry="kdumpd.inside")
    staging = scratch / "staging"
    staging.mkdir()
    interpreter.stage(of, closure.closure(of), staging)
    (staging / interpreter.RUNNER).chmod(0o755)
    _add_tree(initrd, staging, sorted(staging.rglob("*")))


def _add_tree(initrd: Initrd, root: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        inside = f"/{path.relative_to(root)}"
        if path.is_symlink():
            initrd.link(inside, str(path.readlink()))
        elif path.is_dir():
            initrd.folder(inside)
        else:
            content = _without_symbols(path) if ".so" in path.name else path.read_bytes()
            initrd.file(inside, content, stat.S_IMODE(path.stat().st_mode))


def _without_symbols(library: Path) -> bytes:
    """The library without what an interpreter of its own (pyenv, /opt) has 20 MB of; the file itself is only read."""
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "--strip-unneeded", "-o", stripped.name, str(library)], check=True)
        return Path(stripped.name).read_bytes()


def _add_peer(initrd: Initrd, program: peers.Program, name: str) -> None:
    """A program of another system under /peer, started through its own loader by /bin/NAME."""
    loader, option, folders, binary = program.argv
    listed = subprocess.run([loader, option, folders, "--list", binary], check=True, capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        _, arrow, path = line.partition(" => ")
        if arrow:
            library = Path(path.split(" (")[0])
            initrd.copy(library, f"/peer/{library.name}")
    initrd.copy(Path(loader), "/peer/loader")
    initrd.copy(Path(binary), f"/peer/{name}")
    initrd.file(f"/bin/{name}", f'#!/bin/sh\nexec /peer/loader --library-path /peer /peer/{name} "$@"\n', 0o755)
