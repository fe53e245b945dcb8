"""16 TiB: a vmcore that no machine here could have, scanned to its end and dumped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.big import GIB, IDLE, TIB, BigVmcore
from tests.builders.truth import measured

SEED = 7
LARGE, SMALL = 16 * TIB, 64 * GIB
MOST = 2048  # KiB


@pytest.mark.matrix
def test_16_tebibytes_are_scanned_as_the_seed_has_them_in_the_memory_of_64_gibibytes(tmp_path: Path) -> None:
    small = measured("scan", BigVmcore(SMALL, SEED).save(tmp_path / "small"))
    found = measured("scan", BigVmcore(LARGE, SEED).save(tmp_path / "large"))
    assert (found["wrong"], found["frames"]) == (0, LARGE // 4096)
    assert found["counts"] == found["expected"]
    assert found["peak"] - small["peak"] <= MOST


@pytest.mark.matrix
def test_16_tebibytes_are_dumped_and_verified_in_the_memory_of_64_gibibytes(tmp_path: Path) -> None:
    sizes = {size: BigVmcore(size, SEED, IDLE).save(tmp_path / f"{size}") for size in (SMALL, LARGE)}
    few = {size: measured("dump", path) for size, path in sizes.items()}
    assert few[LARGE]["pages"] == few[SMALL]["pages"]
    assert few[LARGE]["peak"] - few[SMALL]["peak"] <= MOST
    read = {size: measured("verify", path) for size, path in sizes.items()}
    assert {one["verdict"] for one in read.values()} == {"good"}
    assert read[LARGE]["peak"] - read[SMALL]["peak"] <= MOST
