"""kdumpd_scan built for a kernel, and put where that kernel's other modules are; `python -m tests.lab.kmod` for make.

Built once for each kernel and state of kmod/, into `~/.cache/kdumpd/kmod`. Called by `inside`, by tests and by
`make kmod`; imports `headers` and rehearse.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError, KdumpdError
from kdumpd.rehearse import kernels
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.packages import CACHE, Say, new_folder, run
from tests.lab import peers
from tests.lab.headers import BuildTree, build_tree

SOURCES = Path(__file__).parent.parent.parent / "kmod"
NAME = "kdumpd_scan.ko"
INSTALLED = f"updates/{NAME}"
# What make says of every module that is built without the whole kernel tree, or by another gcc than the kernel was.
NOT_OURS = (
    "Skipping BTF generation",
    "pahole version differs",
    "the compiler differs from the one used to build the kernel",
    "The kernel was built by:",
    "You are using:",
)


class Build(NamedTuple):
    """A finished build: the module and what make printed."""

    module: Path
    log: Path

    def complaints(self) -> tuple[str, ...]:
        """Each line of a warning or error about the module."""
        lines = self.log.read_text(errors="replace").splitlines()
        return tuple(
            line for line in lines if ("warning" in line.lower() or "error" in line.lower()) and not _not_ours(line)
        )


def build(kernel: Kernel, say: Say = lambda line: None) -> Path:
    """The module for this kernel, installed in its `updates` folder with depmod; the same path while nothing changes.

    Raises HostError with the compiler's first error.
    """
    module = compile_module(kernel, say=say).module
    return install(kernel, module, say)


def compile_module(kernel: Kernel, *, sparse: bool = False, say: Say = lambda line: None) -> Build:
    """The module, compiled with W=1 and, when `sparse` is set, C=1; from the cache or made now."""
    tree = build_tree(kernel, say)
    architecture = tree.architecture
    name = f"{kernel.release}_{architecture}_{source_hash(tree)}{'_sparse' if sparse else ''}"
    folder = CACHE / "kmod" / name
    if not folder.is_dir():
        with new_folder(folder) as made:
            say(f"building {NAME} for {kernel.release}")
            _make(tree, made, sparse, say)
    return Build(folder / NAME, folder / "make.log")


def install(kernel: Kernel, module: Path, say: Say = lambda line: None) -> Path:
    """The module is what `modprobe kdumpd_scan` of this kernel takes; where it lies."""
    final = kernel.modules / INSTALLED
    try:
        with (kernel.modules / ".kdumpd-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.is_file() or final.read_bytes() != module.read_bytes():
                final.parent.mkdir(exist_ok=True)
                fresh = final.with_name(f".{NAME}.new")
                shutil.copyfile(module, fresh)
                fresh.rename(final)
                run(["depmod", "-b", str(kernel.root), kernel.release])
                say(f"installed {final}")
    except OSError as error:
        raise HostError(f"{kernel.modules}: {error.strerror}; only root installs modules there") from error
    return final


def source_hash(tree: BuildTree) -> str:
    """Changes when a file of kmod/ or the compiler does."""
    digest = hashlib.sha256(f"{tree.compiler} {tree.folder}".encode())
    for path in sources():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def sources() -> list[Path]:
    """The files that a build takes."""
    return sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h") or path.name == "Kbuild")


def _make(tree: BuildTree, folder: Path, sparse: bool, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="kdumpd-kmod-") as name:
        work = Path(name)
        for path in sources():
            shutil.copy(path, work)
        command = ["make", "-j2", "-C", str(tree.folder), f"M={work}", *tree.variables, "W=1"]
        if sparse:
            # Kernels need a sparse of their age.
            command += ["C=1", f"CHECK={shlex.join(peers.program('sparse', peers.NEWEST, say).argv)}"]
        done = subprocess.run([*command, "modules"], capture_output=True, text=True, errors="replace")
        log = (done.stdout + done.stderr).replace(f"{work}/", "")
        (folder / "make.log").write_text(log)
        if done.returncode != 0:
            kept = CACHE / "kmod" / "failed.log"
            kept.write_text(log)
            first = next((line for line in log.splitlines() if "rror" in line), f"exit status {done.returncode}")
            raise HostError(f"kmod/: does not build for {tree.folder.name}: {first}; see {kept}")
        # As distributions ship theirs: it is loaded where memory is short.
        subprocess.run([f"{tree.cross}strip", "--strip-debug", "-o", str(folder / NAME), str(work / NAME)], check=True)


def _not_ours(line: str) -> bool:
    return any(text in line for text in NOT_OURS)


def main(arguments: list[str]) -> int:
    """What `make kmod KERNEL=...` runs."""
    parser = argparse.ArgumentParser(prog="make kmod")
    parser.add_argument("kernel", nargs="?", default="", help="as `kdumpd rehearse --kernel` takes it")
    parser.add_argument("--sparse", action="store_true", help="also check with sparse")
    parser.add_argument("--fetched", action="store_true", help="leave this machine's own kernels as they are")
    asked = parser.parse_args(arguments)
    try:
        kernel = find(asked.kernel, print)
        if asked.fetched and not kernel.modules.is_relative_to(CACHE):
            print(f"{kernel.release} is this machine's own: make kmod KERNEL={kernel.release} would install {NAME}")
            return 0
        made = compile_module(kernel, sparse=asked.sparse, say=print)
        for line in made.complaints():
            print(line, file=sys.stderr)
        print(install(kernel, made.module))
    except KdumpdError as error:
        print(f"make kmod: {error}", file=sys.stderr)
        return 1
    return 0


def find(reference: str, say: Say) -> Kernel:
    """The kernel that a rehearsal would take for this reference; a package that ends in -arm64 is one for arm64."""
    package, _, version = reference.partition("=")
    if package.endswith("-arm64"):
        return kernels.fetch(package, version, "arm64", say=say)
    return kernels.find(reference, say)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
