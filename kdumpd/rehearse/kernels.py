"""Which kernel a rehearsal boots: one installed here, a file, or a Debian package fetched and unpacked in the cache.

Called by `kdumpd rehearse --kernel` and by the test lab; imports packages and errors.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.rehearse.packages import CACHE, Archive, Say, fits, new_folder, run

# A kernel package that holds files of the kernel itself, old style or split (linux-binary, linux-modules, linux-base
# since 7.x); plain `linux-base` is a package of scripts and has no release in its name.
PART = re.compile(r"linux-(image|binary|modules|base)-\d\S*")


class Kernel(NamedTuple):
    """A kernel's files; `modules` is the folder `.../lib/modules/RELEASE`, with modules.dep."""

    release: str
    vmlinuz: Path
    modules: Path
    config: Path | None

    @property
    def root(self) -> Path:
        """The folder that `depmod -b` and `modprobe -d` call the base: it has lib/modules/RELEASE."""
        return self.modules.parent.parent.parent


def find(reference: str = "", say: Say = lambda line: None) -> Kernel:
    """The kernel that `--kernel` names: an installed release, a path to a vmlinuz, PACKAGE or PACKAGE=VERSION.

    Empty means the running kernel if it is installed, else the newest installed one, else Debian's own
    `linux-image-ARCHITECTURE` of this machine's Debian release. HostError says what was looked for.
    """
    if not reference:
        return installed(os.uname().release) or _newest_installed() or _debian_default(say)
    if "/" in reference:
        return from_path(Path(reference))
    here = installed(reference)
    if here:
        return here
    package, _, version = reference.partition("=")
    if not package.startswith("linux-"):
        raise HostError(
            f"--kernel {reference}: no /boot/vmlinuz-{reference} here and no Debian kernel package's name; "
            f"installed: {', '.join(_installed_releases()) or 'none'}"
        )
    return fetch(package, version, say=say)


def installed(release: str, root: Path = Path("/")) -> Kernel | None:
    """The kernel of this release installed under `root`, if it is: vmlinuz in /boot or beside its modules."""
    for modules in (root / "lib/modules" / release, root / "usr/lib/modules" / release):
        for vmlinuz in (root / "boot" / f"vmlinuz-{release}", modules / "vmlinuz"):
            if vmlinuz.is_file() and modules.is_dir():
                configs = (root / "boot" / f"config-{release}", modules / "config")
                return Kernel(release, vmlinuz, modules, next((path for path in configs if path.is_file()), None))
    return None


def from_path(vmlinuz: Path) -> Kernel:
    """The kernel of this file; its modules lie in the tree that the file is part of, else on this machine."""
    if not vmlinuz.is_file():
        raise HostError(f"{vmlinuz}: no such kernel; --kernel takes a release, a vmlinuz or a package's name")
    vmlinuz = vmlinuz.resolve()
    release = release_of(vmlinuz)
    for root in (*vmlinuz.parents, Path("/")):
        for modules in (root / "lib/modules" / release, root / "usr/lib/modules" / release):
            if modules.is_dir():
                configs = (vmlinuz.with_name(f"config-{release}"), modules / "config")
                return Kernel(release, vmlinuz, modules, next((path for path in configs if path.is_file()), None))
    raise HostError(f"{vmlinuz}: no lib/modules/{release} in a folder above it or on this machine; put it there")


def release_of(vmlinuz: Path) -> str:
    """The release a kernel file was built as: from the boot header (Documentation/arch/x86/boot.rst), else its text."""
    image = vmlinuz.read_bytes()
    if image[0x202:0x206] == b"HdrS":
        offset = int.from_bytes(image[0x20E:0x210], "little") + 0x200
        words = image[offset : offset + 256].split(b"\0", 1)[0].split()
        if words:
            return words[0].decode("ascii", "replace")
    found = re.search(rb"Linux version (\S+) ", image)
    if found:
        return found[1].decode("ascii", "replace")
    named = vmlinuz.name.removeprefix("vmlinuz-")
    if named != vmlinuz.name:
        return named
    raise HostError(f"{vmlinuz}: not a kernel image that says its release; name the file vmlinuz-RELEASE")


def fetch(
    package: str, version: str = "", architecture: str = "amd64", cache: Path = CACHE, say: Say = lambda line: None
) -> Kernel:
    """The kernel of a Debian package, unpacked once into `~/.cache/kdumpd/kernels`; nothing is installed.

    `version` may be the beginning of one (`6.12`): the newest that fits is taken. A meta package leads to the real one.
    """
    archive = Archive(architecture, cache, say)
    kept = cache / "kernels"
    if version and (kept / _folder_name(package, version, architecture)).is_dir():
        return _in_tree(kept / _folder_name(package, version, architecture), package)
    try:
        chosen = archive.choose(package, version).version
    except HostError as error:
        return _fetched_before(kept, package, version, architecture, error)
    try:
        return _unpacked(archive, package, chosen)
    except HostError:
        # The mirror may have replaced that version since its lists were read.
        archive.refresh(now=True)
        newer = archive.choose(package, version).version
        if newer == chosen:
            raise
        return _unpacked(archive, package, newer)


def _unpacked(archive: Archive, package: str, version: str) -> Kernel:
    folder = archive.cache / "kernels" / _folder_name(package, version, archive.architecture)
    if not folder.is_dir():
        with new_folder(folder) as made:
            _unpack_parts(archive, package, version, made)
            if not (made / "lib").exists():
                (made / "lib").symlink_to("usr/lib")
            run(["depmod", "-b", str(made), _in_tree(made, package).release])
    return _in_tree(folder, package)


def _folder_name(package: str, version: str, architecture: str) -> str:
    return f"{package}_{version}_{architecture}".replace("/", "_")


def _fetched_before(kept: Path, package: str, version: str, architecture: str, error: HostError) -> Kernel:
    """Without the mirror: the kernel of that series that was fetched last; `error` when there is none."""
    folders = [
        path
        for path in kept.glob(f"{package}_*_{architecture}")
        if fits(path.name.removeprefix(f"{package}_").removesuffix(f"_{architecture}"), version)
    ]
    if not folders:
        raise error
    return _in_tree(max(folders, key=lambda path: path.stat().st_mtime), package)


def _unpack_parts(archive: Archive, package: str, version: str, folder: Path) -> None:
    """The package and every kernel part that it depends on, directly or through others, are unpacked in `folder`."""
    waiting, seen = [package], {package}
    while waiting:
        needed = archive.depends(waiting.pop(), version)
        parts = {part for part in needed if PART.fullmatch(part)} - seen
        seen |= parts
        waiting += sorted(parts)
    archive.unpack({part: version for part in sorted(seen) if PART.fullmatch(part)}, folder)


def _in_tree(folder: Path, name: str) -> Kernel:
    for modules in sorted(folder.glob("lib/modules/*")):
        kernel = installed(modules.name, folder)
        if kernel:
            return kernel
    raise HostError(f"{name}: the package has no kernel image with modules; name a linux-image package")


def _installed_releases() -> list[str]:
    return [path.name.removeprefix("vmlinuz-") for path in sorted(Path("/boot").glob("vmlinuz-*"))]


def _newest_installed() -> Kernel | None:
    def age(release: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", release)]

    kernels = (installed(release) for release in sorted(_installed_releases(), key=age, reverse=True))
    return next((kernel for kernel in kernels if kernel), None)


def _debian_default(say: Say) -> Kernel:
    """The kernel that a fresh installation of this machine's Debian would get."""
    architecture = run(["dpkg", "--print-architecture"]).strip()
    package = f"linux-image-{architecture}"
    offered = Archive(architecture, say=say).candidates(package)
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    suites = (codename, f"{codename}-security")
    own = [candidate.version for candidate in offered if candidate.suite in suites]
    return fetch(package, own[0] if own else "", architecture, say=say)
