"""The programs to compare with, of any age: fetched beside the system, run through their own dynamic loader.

Called by the fixtures and by bench; imports rehearse.packages.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.packages import CACHE, Archive, Say, new_folder

LIBRARIES = "x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"
# makedumpfile follows kernels late; the newest suite that has it is the best judge.
NEWEST = "sid"
DEBIAN_13 = "trixie"


class Program(NamedTuple):
    """A program and what starts it: `argv` is put before its arguments."""

    argv: tuple[str, ...]
    version: str

    def run(
        self, *arguments: str | Path, within: float = 300, check: bool = True, said: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The program's result, `said` on its standard input; CalledProcessError when it fails and `check` is set."""
        command = [*self.argv, *(str(argument) for argument in arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within,
            check=check,
            input=said,
        )


def makedumpfile(suite: str = NEWEST, say: Say = lambda line: None) -> Program:
    """makedumpfile of a Debian suite: 1.7.6 of trixie is the speed reference, sid's knows the newest kernels."""
    return program("makedumpfile", suite, say)


def crash(suite: str = NEWEST, say: Say = lambda line: None) -> Program:
    """The crash utility of a Debian suite."""
    return program("crash", suite, say)


def ask_crash(vmlinux: Path, dump: Path, *commands: str, suite: str = NEWEST) -> str:
    """What the crash utility prints, errors and warnings too, when it opens the dump and is given these commands."""
    said = "".join(f"{command}\n" for command in (*commands, "exit"))
    done = crash(suite).run("-s", vmlinux, dump, said=said, check=False)
    return done.stdout + done.stderr


def program(package: str, suite: str, say: Say = lambda line: None) -> Program:
    """A package's program of its own name, with the libraries of its suite, in `~/.cache/kdumpd/packages`."""
    version, folder = with_libraries(Archive("amd64", CACHE, say), package, suite)
    libraries = [folder / place / LIBRARIES for place in ("usr/lib", "lib")]
    loader = next(path for path in (library / LOADER for library in libraries) if path.exists())
    binary = next(path for path in (folder / "usr/bin" / package, folder / "usr/sbin" / package) if path.is_file())
    argv = (str(loader), "--library-path", ":".join(str(path) for path in libraries if path.is_dir()), str(binary))
    return Program(argv, version.partition("-")[0])


def with_libraries(archive: Archive, package: str, suite: str) -> tuple[str, Path]:
    """The package's version in the suite, and a folder with it and the libraries it needs; what was fetched stays."""
    place = archive.cache / "packages"
    ending = f"_{suite}_{archive.architecture}"
    for folder in sorted(place.glob(f"{package}_*{ending}")):
        return folder.name.removeprefix(f"{package}_").removesuffix(ending), folder
    try:
        return _fetched(archive, package, suite)
    except HostError:
        # A suite that moves daily has replaced a version since its lists were read.
        archive.refresh(now=True)
        return _fetched(archive, package, suite)


def _fetched(archive: Archive, package: str, suite: str) -> tuple[str, Path]:
    versions = _closure(archive, package, suite)
    version = versions[package].partition(":")[2] or versions[package]
    return version, archive.fetch(versions, f"{package}_{version}_{suite}_{archive.architecture}")


def debug_vmlinux(kernel: Kernel, say: Say = lambda line: None) -> Path:
    """The vmlinux with DWARF of a kernel that `kernels.fetch` unpacked; the rest of its package is left packed."""
    package = f"linux-image-{kernel.release}-dbg"
    _, version, architecture = kernel.root.name.split("_")
    final = CACHE / "packages" / f"{package}_{version}"
    if not final.is_dir():
        with new_folder(final) as made:
            member = f"./usr/lib/debug/boot/vmlinux-{kernel.release}"
            Archive(architecture, CACHE, say).extract(package, version, member, made / f"vmlinux-{kernel.release}")
    return final / f"vmlinux-{kernel.release}"


def _closure(archive: Archive, package: str, suite: str) -> dict[str, str]:
    """The package and the libraries it needs, each at the version that the suite has."""
    versions: dict[str, str] = {}
    waiting = [package]
    while waiting:
        name = waiting.pop()
        offered = [candidate.version for candidate in archive.candidates(name) if candidate.suite == suite]
        if not offered:
            raise HostError(f"{name}: not in Debian's {suite} ({archive.architecture})")
        versions[name] = offered[0]
        needed = archive.depends(name, offered[0])
        libraries = {part for part in needed if part.startswith(("lib", "zlib")) and not part.startswith("libc-")}
        waiting += sorted(libraries - versions.keys() - set(waiting))
    return versions
