"""A big machine: every page as the seed has it, and a whole dump, in the memory that a small one takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.big import GIB, IDLE, TIB, BigVmcore
from tests.builders.truth import measured

SEED = 7
SMALL = 64 * GIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("size")


@pytest.fixture(scope="module")
def small(folder: Path) -> str:
    return BigVmcore(SMALL, SEED).save(folder / "small")


def test_64_gibibytes_are_scanned_as_the_seed_has_them(small: str) -> None:
    found = measured("scan", small)
    assert (found["wrong"], found["frames"]) == (0, SMALL // 4096)
    assert found["counts"] == found["expected"]


def test_a_tebibyte_is_scanned_as_the_seed_has_it_in_the_memory_of_a_small_machine(small: str, folder: Path) -> None:
    found = measured("scan", BigVmcore(TIB, SEED).save(folder / "terabyte"))
    assert (found["wrong"], found["frames"]) == (0, TIB // 4096)
    assert found["counts"] == found["expected"]
    assert found["peak"] - measured("scan", small)["peak"] <= 1024  # KiB


def test_a_tebibyte_is_dumped_and_verified_in_the_memory_of_a_small_machine(folder: Path) -> None:
    sizes = {size: BigVmcore(size, SEED, IDLE).save(folder / f"idle{size}") for size in (SMALL, TIB)}
    few = {size: measured("dump", path) for size, path in sizes.items()}
    assert few[TIB]["pages"] == few[SMALL]["pages"] > 1000
    assert few[TIB]["peak"] - few[SMALL]["peak"] <= 1024  # KiB
    read = {size: measured("verify", path) for size, path in sizes.items()}
    assert {one["verdict"] for one in read.values()} == {"good"}
    assert read[TIB]["pages"] == few[TIB]["pages"]
    assert read[TIB]["peak"] - read[SMALL]["peak"] <= 1024
