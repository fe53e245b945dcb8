"""Kernel modules of a release: names, dependencies, and an order in which each can be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.host.modules import ModuleIndex, name_of, parse_aliases, parse_builtin, parse_dependencies, parse_soft

DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko.xz:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/a.ko:
kernel/b.ko:
"""
SOFT = "softdep ext4 pre: crc32c\nsoftdep a pre: b\nsoftdep b post: a\nsoftdep broken\n"
ALIAS = """\
# Aliases extracted from modules themselves.
alias crc32c crc32c_generic
alias crc32c crc32c_intel
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
"""


def index(tmp_path: Path, **files: str) -> ModuleIndex:
    texts = {"dep": DEP, "softdep": SOFT, "alias": ALIAS, "builtin": "kernel/fs/fat/vfat.ko\n", **files}
    for name, text in texts.items():
        (tmp_path / f"modules.{name}").write_text(text)
    return ModuleIndex.read(tmp_path)


def names(order: tuple[str, ...]) -> list[str]:
    return [name_of(path) for path in order]


def test_a_name_is_the_file_without_its_suffixes_and_dashes() -> None:
    assert name_of("kernel/arch/x86/crypto/crc32c-intel.ko.xz") == "crc32c_intel"
    assert name_of("a.ko") == name_of("x/a.ko.zst") == name_of("a.ko.gz") == "a"


def test_the_parsers_take_depmod_files_and_skip_what_makes_no_sense() -> None:
    assert parse_dependencies("a.ko:\nnonsense\n") == {"a": ("a.ko",)}
    assert parse_builtin("kernel/a-b.ko\n") == {"a_b"}
    assert parse_soft(SOFT)["ext4"] == (("crc32c",), ())
    assert parse_aliases("alias x y\nalias broken\n# no\n") == (("x", "y"),)


def test_what_a_module_needs_is_loaded_before_it(tmp_path: Path) -> None:
    order = names(index(tmp_path).load_order(["virtio_pci"]))
    assert order == ["virtio", "virtio_ring", "virtio_pci"]


def test_a_soft_dependency_brings_every_module_of_its_alias_first(tmp_path: Path) -> None:
    order = names(index(tmp_path).load_order(["ext4"]))
    assert order == ["crc32c_generic", "crc32c_intel", "mbcache", "jbd2", "ext4"]


def test_soft_dependencies_in_a_circle_end(tmp_path: Path) -> None:
    assert sorted(names(index(tmp_path).load_order(["a"]))) == ["a", "b"]


def test_what_is_built_in_needs_no_file(tmp_path: Path) -> None:
    assert index(tmp_path).load_order(["vfat"]) == ()


def test_a_modalias_finds_its_driver_and_one_without_a_module_is_built_in(tmp_path: Path) -> None:
    found = index(tmp_path)
    wanted = ["pci:v00001AF4d00001042sv00001AF4sd00001042bc01sc80i00", "virtio:d00000002v00001AF4"]
    assert names(found.load_order(wanted)) == ["virtio", "virtio_ring", "virtio_pci"]


def test_a_module_that_the_kernel_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no module megaraid"):
        index(tmp_path).load_order(["megaraid"])


def test_a_folder_where_depmod_never_ran_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="run depmod"):
        ModuleIndex.read(tmp_path)
