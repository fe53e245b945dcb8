"""A system on which kdumpd is installed, as the initramfs of a VM: programs and interpreter at the same paths as here.

What `kdumpd plan` and `kdumpd apply` need of a system is copied from this one: the packages whose programs they run,
the interpreter with the environment that the tests run in, this checkout, and a kernel that has kexec.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdumpd.host import program
from kdumpd.host.modules import ModuleIndex
from kdumpd.image import libraries, scan_module
from kdumpd.rehearse.kernels import Kernel

REPOSITORY = Path(__file__).parents[2]
#: What plan and apply call themselves or by dracut, and a shell for /init.
PACKAGES = (
    *("bash", "binutils", "coreutils", "cpio", "dash", "debianutils", "dracut-core", "findutils", "grep"),
    *("kexec-tools", "kmod", "libc-bin", "mount", "sed", "util-linux"),
)
_NO_USE = re.compile(r"/usr/share/(doc|man|locale|info|lintian)/|/usr/lib/python3")
_NO_USE_IN_PYTHON = shutil.ignore_patterns(
    *("site-packages", "dist-packages", "test", "tests", "config-*", "ensurepip", "idlelib", "lib2to3", "tkinter")
)


class Root:
    """The tree of such a system in `folder`; `interpreter` runs kdumpd there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.interpreter = sys.executable
        for name in ("bin", "lib", "lib64", "sbin"):
            (folder / "usr" / name).mkdir(parents=True)
            (folder / name).symlink_to(f"usr/{name}")
        for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var/crash", "var/tmp", "boot"):
            (folder / name).mkdir(parents=True)
        for name in ("passwd", "group", "os-release"):
            self.copy(Path("/etc", name))

    def copy(self, source: Path) -> None:
        """A file, or a symbolic link and what it leads to, at the same place as here."""
        here = Path(os.path.realpath(source.parent), source.name)
        there = self.folder / here.relative_to("/")
        if there.exists() or there.is_symlink():
            return
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(here, there, follow_symlinks=False)
        if here.is_symlink() and here.exists() and not here.is_dir():
            self.copy(here.parent / here.readlink())

    def program(self, source: Path) -> None:
        """A program with its libraries."""
        self.copy(source)
        for library in libraries.needed((source,)):
            self.copy(library)

    def packages(self, names: Iterable[str]) -> None:
        """Installed Debian packages, without what is to be read."""
        listed = subprocess.run(["dpkg-query", "--listfiles", *names], check=True, capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            path = Path(line)
            if not path.is_absolute() or _NO_USE.search(line) or not os.path.lexists(path):
                continue
            if path.is_dir() and not path.is_symlink():
                (self.folder / os.path.realpath(path).lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif os.access(path, os.X_OK) and path.is_file():
                self.program(path)
            else:
                self.copy(path)

    def python(self) -> None:
        """The interpreter of this environment, kdumpd of this checkout and what it requires."""
        self.copy(Path(sys.executable))
        self.program(Path(os.path.realpath(sys.executable)))
        library = Path(os.__file__).parent
        there = self.folder / library.relative_to("/")
        shutil.copytree(library, there, symlinks=True, ignore=_NO_USE_IN_PYTHON, dirs_exist_ok=True)
        for extension in (library / "lib-dynload").glob("*.so"):
            for shared in libraries.needed((extension,)):
                self.copy(shared)
        configuration = Path(sys.prefix, "pyvenv.cfg")
        if configuration.is_file():
            self.copy(configuration)
        for path in _required_files("kdumpd"):
            self.program(path) if path.suffix == ".so" else self.copy(path)
        for name in ("kdumpd", "config", "dracut"):
            shutil.copytree(REPOSITORY / name, self.folder / str(REPOSITORY / name).lstrip("/"))

    def kernel(self, kernel: Kernel, modules: Iterable[str]) -> None:
        """A kernel as its package installs it; of its modules these, what they need, and kdumpd's own if it has it."""
        shutil.copy2(kernel.vmlinuz, self.folder / "boot" / f"vmlinuz-{kernel.release}")
        there = self.folder / "usr/lib/modules" / kernel.release
        index = ModuleIndex.read(kernel.modules)
        own = (scan_module.NAME,) if scan_module.NAME in index.dependencies else ()
        needed = index.load_order((*modules, *own))
        for file in (*kernel.modules.glob("modules.*"), *(kernel.modules / path for path in needed)):
            (there / file.relative_to(kernel.modules)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, there / file.relative_to(kernel.modules))

    def pack(self, init: str, archive: Path) -> None:
        """The tree as an initramfs whose /init is this script."""
        (self.folder / "init").write_text(init)
        (self.folder / "init").chmod(0o755)
        names = "\0".join(sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*")))
        # Times stay as they are: the interpreter's compiled modules are good only with them.
        with archive.open("wb") as out:
            subprocess.run(
                [program.require("cpio", "cpio"), "--null", "--create", "--format=newc", "--quiet", "--owner=+0:+0"],
                cwd=self.folder,
                input=names.encode(),
                stdout=out,
                check=True,
            )


def _required_files(name: str) -> Iterator[Path]:
    """Every file of the distributions that this one requires, directly or not."""
    todo, done = [name], {name}
    while todo:
        for line in importlib.metadata.requires(todo.pop()) or ():
            match = re.match(r"[\w.-]+", line)
            if match is None or "extra ==" in line or match[0] in done:
                continue
            done.add(match[0])
            try:
                distribution = importlib.metadata.distribution(match[0])
            except importlib.metadata.PackageNotFoundError:
                continue  # for another system or an older interpreter
            todo.append(match[0])
            for file in distribution.files or ():
                path = Path(str(file.locate())).resolve()
                if path.is_file() and ".." not in file.parts:
                    yield path
