"""What a module is compiled against: a kernel's header packages, unpacked beside the system and made to work there.

They are meant for the Debian release that they belong to; here they serve an older one too: paths of /usr/src, the
compiler's name and options, and programs for a newer libc are put right. Called by `kmod`; imports rehearse.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.packages import CACHE, Archive, Say, new_folder
from tests.lab import peers

#: Programs of linux-kbuild that an external module's build runs.
PROGRAMS = (
    "scripts/basic/fixdep",
    "scripts/genksyms/genksyms",
    "scripts/mod/modpost*",
    "tools/objtool/objtool*",
    "tools/bpf/resolve_btfids/resolve_btfids",
)
HOST = "amd64"
GCC = re.compile(r"\bgcc(-\d+)?$", re.MULTILINE)
ALIGNMENT = "-fmin-function-alignment="  # gcc 14
OLD_ALIGNMENT = "-falign-functions="


class BuildTree(NamedTuple):
    """A folder for `make -C`, the variables to give it, who compiles, and what its tools' names begin with."""

    folder: Path
    architecture: str
    compiler: str
    variables: tuple[str, ...]
    cross: str = ""


def build_tree(kernel: Kernel, say: Say = lambda line: None) -> BuildTree:
    """The build tree of a kernel that `kernels.fetch` unpacked, or that has one beside its modules."""
    if kernel.root.parent != CACHE / "kernels":
        folder = kernel.modules / "build"
        if not folder.is_dir():
            raise HostError(f"{folder}: not there; install linux-headers-{kernel.release}")
        return BuildTree(folder.resolve(), "native", "gcc", ())
    _, version, architecture = kernel.root.name.rsplit("_", 2)
    headers = f"linux-headers-{kernel.release}"
    final = CACHE / "packages" / f"{headers}_{version}_{architecture}_ready"
    cross = "" if architecture == HOST else "aarch64-linux-gnu-"
    if not final.is_dir():
        with new_folder(final) as made:
            _unpack(headers, version, architecture, made, say)
            _make_ready(made, final, headers, cross, say)
    folder = final / "usr/src" / headers
    crossing = (f"CROSS_COMPILE={cross}", "ARCH=arm64") if cross else ()
    return BuildTree(folder, architecture, _version_of(_compiler(folder, cross)), crossing, cross)


def _unpack(headers: str, version: str, architecture: str, folder: Path, say: Say) -> None:
    """The headers of the kernel's architecture with the programs of this machine's."""
    archive = Archive(architecture, CACHE, say)
    needed = archive.depends(headers, version)
    common = [name for name in needed if re.fullmatch(r"linux-headers-\S+-common", name)]
    programs = [name for name in needed if name.startswith("linux-kbuild-")]
    archive.unpack(dict.fromkeys([headers, *common], version), folder)
    Archive(HOST, CACHE, say).unpack(dict.fromkeys(programs, version), folder)


def _make_ready(folder: Path, final: Path, headers: str, cross: str, say: Say) -> None:
    """Nothing in `folder`, which will be `final`, names a place outside of it or asks for what is not here."""
    tree = folder / "usr/src" / headers
    compiler = _compiler(tree, cross)
    variables = tree / ".kernelvariables"
    variables.write_text(GCC.sub(compiler.removeprefix(cross), variables.read_text()))
    for path in folder.glob("usr/src/*/Makefile"):
        text = path.read_text().replace("/usr/src/", f"{final}/usr/src/")
        if not _takes(compiler, f"{ALIGNMENT}16"):
            text = text.replace(ALIGNMENT, OLD_ALIGNMENT)
        path.write_text(text)
    # Newer headers ask this whether sparse will do, and leave it out of their package.
    for scripts in folder.glob("usr/lib/linux-kbuild-*/scripts"):
        valid = scripts / "checker-valid.sh"
        if not valid.exists():
            valid.write_text("#!/bin/sh\necho 1\n")
            valid.chmod(0o755)
    # What BTF of a module is made from; pahole, which makes it, is not asked for.
    (tree / "vmlinux").unlink(missing_ok=True)
    for pattern in PROGRAMS:
        for program in folder.glob(f"usr/lib/linux-kbuild-*/{pattern}"):
            if not program.is_symlink() and _needs_newer_libc(program):
                _run_through_loader(program, final / program.relative_to(folder), say)


def _compiler(tree: Path, cross: str) -> str:
    """The gcc that the kernel was built by, if it is here, else the machine's."""
    named = GCC.search((tree / ".kernelvariables").read_text())
    own = f"{cross}{named[0]}" if named else ""
    found = own if own and shutil.which(own) else f"{cross}gcc"
    if not shutil.which(found):
        raise HostError(f"{found}: not installed; apt-get install {'gcc-aarch64-linux-gnu' if cross else 'gcc'}")
    return found


def _version_of(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def _takes(compiler: str, option: str) -> bool:
    command = [compiler, option, "-x", "c", "-E", "/dev/null"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _needs_newer_libc(program: Path) -> bool:
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return False
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return "not found" in done.stdout + done.stderr


def _run_through_loader(program: Path, final: Path, say: Say) -> None:
    """A script of the program's name starts it by the dynamic loader of a newer system, with that one's libraries.

    The program's own name stays its first argument: modpost and objtool find the one for the architecture by it.
    """
    _, system = peers.with_libraries(Archive(HOST, CACHE, say), "libelf1t64", peers.DEBIAN_13)
    loader = next(system.rglob(peers.LOADER)).resolve()
    libraries = sorted({str(path.parent) for path in system.rglob("*.so.[0-9]*")})
    real = program.with_name(f"{program.name}.elf")
    program.rename(real)
    program.write_text(
        "#!/bin/sh\n"
        f'exec {loader} --library-path {":".join(libraries)} --argv0 "$0" {final.with_name(real.name)} "$@"\n'
    )
    program.chmod(0o755)
