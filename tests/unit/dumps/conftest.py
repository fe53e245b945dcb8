"""One good dump for all tests of this folder, and a rig for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.dumps.targets import Rig, save_dump


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy it before you change it."""
    return save_dump(tmp_path_factory.mktemp("good"))


@pytest.fixture
def rig(tmp_path: Path, good: Path) -> Rig:
    return Rig(tmp_path, good)
