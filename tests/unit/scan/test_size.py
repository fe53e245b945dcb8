"""A scan of a big machine: every page as the seed has it, in the memory that a small one takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.big import GIB, TIB, BigVmcore
from tests.builders.truth import measured

SEED = 7
SMALL = 64 * GIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("size")


@pytest.fixture(scope="module")
def small(folder: Path) -> str:
    return BigVmcore(SMALL, SEED).save(folder / "small")


@pytest.fixture(scope="module")
def terabyte(folder: Path) -> str:
    return BigVmcore(TIB, SEED).save(folder / "terabyte")


def test_64_gibibytes_are_scanned_as_the_seed_has_them(small: str) -> None:
    found = measured("scan", small)
    assert (found["wrong"], found["frames"]) == (0, SMALL // 4096)
    assert found["counts"] == found["expected"]


def test_a_tebibyte_is_scanned_as_the_seed_has_it_in_the_memory_of_a_small_machine(small: str, terabyte: str) -> None:
    found = measured("scan", terabyte)
    assert (found["wrong"], found["frames"]) == (0, TIB // 4096)
    assert found["counts"] == found["expected"]
    assert found["peak"] - measured("scan", small)["peak"] <= 1024  # KiB
