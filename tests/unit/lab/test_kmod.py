"""Building and installing kdumpd_scan: what counts as a complaint, what changes a build, where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.rehearse.kernels import Kernel
from tests.lab import headers, kmod
from tests.lab.headers import BuildTree

LOG = """\
make: Entering directory '/usr/src/linux-headers-6.1'
warning: the compiler differs from the one used to build the kernel
  CC [M]  main.o
main.c:12:6: warning: unused variable 'left' [-Wunused-variable]
  CHECK   main.c
main.c:20:1: error: incompatible types
Skipping BTF generation for kdumpd_scan.ko due to unavailability of vmlinux
"""


def kernel_at(root: Path) -> Kernel:
    modules = root / "lib/modules/6.1.0-test"
    modules.mkdir(parents=True)
    return Kernel("6.1.0-test", root / "boot/vmlinuz", modules, None)


def test_what_is_said_of_the_module_is_a_complaint_and_what_is_said_of_the_tree_is_not(tmp_path: Path) -> None:
    log = tmp_path / "make.log"
    log.write_text(LOG)
    assert [line.split(":")[1] for line in kmod.Build(tmp_path / "ko", log).complaints()] == ["12", "20"]


def test_another_compiler_is_another_build() -> None:
    one = BuildTree(Path("/usr/src/linux"), "amd64", "gcc 12", ())
    assert kmod.source_hash(one) == kmod.source_hash(one)
    assert kmod.source_hash(one) != kmod.source_hash(one._replace(compiler="gcc 14"))


def test_every_source_that_kbuild_names_is_taken() -> None:
    taken = {path.stem for path in kmod.sources() if path.suffix == ".c"}
    words = (kmod.SOURCES / "Kbuild").read_text().split()
    named = {word.removesuffix(".o") for word in words if word.endswith(".o")} - {"kdumpd_scan"}
    assert named == taken


def test_kernel_without_headers_says_which_package_has_them(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"install linux-headers-6\.1\.0-test"):
        headers.build_tree(kernel_at(tmp_path))


def test_kernel_with_a_build_folder_is_built_there(tmp_path: Path) -> None:
    kernel = kernel_at(tmp_path)
    (kernel.modules / "build").mkdir()
    assert headers.build_tree(kernel).folder == kernel.modules / "build"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("CC = $(if $(X),$(CCACHE)) $(CROSS_COMPILE)gcc-14", "CC = $(if $(X),$(CCACHE)) $(CROSS_COMPILE)gcc"),
        ("override CROSS_COMPILE = x86_64-linux-gnu-", "override CROSS_COMPILE = x86_64-linux-gnu-"),
    ],
)
def test_the_compiler_of_the_headers_is_the_one_that_is_here(line: str, wanted: str) -> None:
    assert headers.GCC.sub("gcc", line) == wanted
