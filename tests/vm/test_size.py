"""16 TiB: a vmcore that no machine here could have, scanned to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.big import GIB, TIB, BigVmcore
from tests.builders.truth import measured

SEED = 7


@pytest.mark.matrix
def test_16_tebibytes_are_scanned_as_the_seed_has_them_in_the_memory_of_64_gibibytes(tmp_path: Path) -> None:
    small = measured("scan", BigVmcore(64 * GIB, SEED).save(tmp_path / "small"))
    found = measured("scan", BigVmcore(16 * TIB, SEED).save(tmp_path / "large"))
    assert (found["wrong"], found["frames"]) == (0, 16 * TIB // 4096)
    assert found["counts"] == found["expected"]
    assert found["peak"] - small["peak"] <= 2048  # KiB
