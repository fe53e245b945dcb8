"""The user engine against makedumpfile, page by page, on the vmcores of kernels that really crashed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.scan.selection import PageCounts
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.differences import differences
from tests.lab.peers import Program
from tests.vm.conftest import CrashOf

RECIPES = ("6.1", "6.1-nokaslr", "6.1-high", "6.12", "newest")
LEVELS = (31, 17, 16, 8, 4, 2, 1, 0)
# What carries most: every level that tells one kind from another on one kernel, and the extremes on the others.
CASES = [(recipe, level) for recipe in RECIPES for level in (LEVELS if recipe == "6.1" else (31, 16, 0))]


class Bits:
    """Takes bitmap 2."""

    def __init__(self) -> None:
        self.windows: list[bytes] = []

    def write(self, bits: bytes) -> None:
        self.windows.append(bits)

    @property
    def kept(self) -> int:
        return int.from_bytes(b"".join(self.windows), "little")


def scan(core: Vmcore, level: int) -> tuple[int, PageCounts]:
    bits = Bits()
    counts = user.scan(core, PageKind(level), (), bits)
    return bits.kept, counts


def compare(vmcore: Path, level: int, makedumpfile: Program, folder: Path) -> Counter[str]:
    """The pages on which we differ from makedumpfile, counted by cause."""
    with Vmcore.open(str(vmcore)) as core:
        ours, _ = scan(core, level)
    return differences(vmcore, level, ours, makedumpfile, folder)


@pytest.mark.parametrize(("recipe", "level"), CASES)
def test_kept_pages_are_makedumpfiles_but_for_explained_ones(
    recipe: str, level: int, crash_of: CrashOf, makedumpfile: Program, tmp_path: Path
) -> None:
    differences = compare(crash_of(recipe).vmcore, level, makedumpfile, tmp_path)
    assert not differences["unexplained"], differences
    if recipe != "newest":
        assert not differences, differences


@pytest.mark.matrix
@pytest.mark.parametrize("level", range(32))
@pytest.mark.parametrize("recipe", ["6.1", "6.12", "newest"])
def test_every_level_keeps_what_makedumpfile_keeps(
    recipe: str, level: int, crash_of: CrashOf, makedumpfile: Program, tmp_path: Path
) -> None:
    assert not compare(crash_of(recipe).vmcore, level, makedumpfile, tmp_path)["unexplained"]


@pytest.mark.matrix
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("recipe", ["5.10", "6.1-nokaslr", "6.1-high", "6.1-numa", "6.12-hvo", "6.1-busy"])
def test_unusual_machines_keep_what_makedumpfile_keeps(
    recipe: str, level: int, crash_of: CrashOf, makedumpfile: Program, tmp_path: Path
) -> None:
    assert not compare(crash_of(recipe).vmcore, level, makedumpfile, tmp_path)["unexplained"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_free_pages_agree_with_the_kernels_own_count(recipe: str, crash_of: CrashOf) -> None:
    with Vmcore.open(str(crash_of(recipe).vmcore)) as core:
        _, counts = scan(core, 16)
        counted = core.free_pages()
    assert counted is not None
    assert abs(counts.free - counted) <= counted // 100


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_kind_of_page_was_there_to_be_told(recipe: str, crash_of: CrashOf) -> None:
    with Vmcore.open(str(crash_of(recipe).vmcore)) as core:
        _, counts = scan(core, 31)
    assert min(counts.cache, counts.cache_private, counts.user, counts.free, counts.kept) > 1000
    assert counts.warnings == ()
