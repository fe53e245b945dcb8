"""kdumpd_scan is built for each kernel without a warning, by make and by dkms, and is one of that kernel's modules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kdumpd.host.modules import ModuleIndex
from tests.lab import checkpatch, kmod
from tests.lab.headers import build_tree

FIRST = "linux-image-amd64=6.1"
OTHERS = (
    "linux-image-amd64=5.10",
    "linux-image-amd64=6.12",
    "linux-image-amd64",
    "linux-image-arm64=6.1",
    "linux-image-arm64=6.12",
)
KERNELS = [FIRST, *(pytest.param(name, marks=pytest.mark.matrix) for name in OTHERS)]
# A module for kernels of several years asks for their version; two constants are compared where one is a kernel's; and
# walk.h is also compiled outside of the kernel, without its macros.
IGNORED = ("LINUX_VERSION_CODE", "CONSTANT_COMPARISON", "BIT_MACRO")


@pytest.mark.parametrize("reference", KERNELS)
def test_the_module_compiles_without_a_word_of_gcc_or_sparse(reference: str) -> None:
    made = kmod.compile_module(kmod.find(reference, print), sparse=True, say=print)
    assert made.complaints() == ()
    log = made.log.read_text()
    compiled = {path.stem for path in kmod.sources() if f"CC [M]  {path.stem}.o" in log}
    checked = {path.stem for path in kmod.sources() if f"CHECK   {path.name}" in log}
    assert compiled == checked
    assert "scan" in compiled


@pytest.mark.parametrize("reference", KERNELS)
def test_the_module_is_one_of_its_kernels_own(reference: str) -> None:
    kernel = kmod.find(reference, print)
    installed = kmod.build(kernel, print)
    assert ModuleIndex.read(kernel.modules).dependencies["kdumpd_scan"] == (kmod.INSTALLED,)
    assert modinfo(installed, "vermagic").split()[0] == kernel.release
    assert modinfo(installed, "license") == "GPL"


@pytest.mark.matrix
def test_the_source_is_written_as_the_kernels_is() -> None:
    assert checkpatch.complaints(kmod.sources(), IGNORED, print) == ()


@pytest.mark.matrix
def test_dkms_builds_the_module(tmp_path: Path) -> None:
    kernel = kmod.find(FIRST, print)
    settings = dict(
        line.replace('"', "").partition("=")[::2] for line in (kmod.SOURCES / "dkms.conf").read_text().splitlines()
    )
    name, version = settings["PACKAGE_NAME"], settings["PACKAGE_VERSION"]
    shutil.copytree(kmod.SOURCES, tmp_path / "src" / f"{name}-{version}")
    (tmp_path / "tree").mkdir()
    places = ["--dkmstree", str(tmp_path / "tree"), "--sourcetree", str(tmp_path / "src")]
    of = ["-m", name, "-v", version]
    run(["dkms", "add", *of, *places])
    headers = str(build_tree(kernel, print).folder)
    run(["dkms", "build", *of, *places, "-k", kernel.release, "-a", "x86_64", "--kernelsourcedir", headers])
    built = list((tmp_path / "tree").rglob("kdumpd_scan.ko*"))
    assert built, sorted((tmp_path / "tree").rglob("*"))
    assert modinfo(built[0], "vermagic").split()[0] == kernel.release


def modinfo(module: Path, field: str) -> str:
    """A field of the module, as modinfo prints it."""
    return run(["modinfo", "-F", field, str(module)]).strip()


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
