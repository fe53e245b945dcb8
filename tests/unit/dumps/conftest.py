"""One good dump for all tests of this folder, and a rig for each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdumpd.dumps import folder
from tests.unit.dumps.targets import Rig, save_dump


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy it before you change it."""
    return save_dump(tmp_path_factory.mktemp("good"))


@pytest.fixture
def rig(tmp_path: Path, good: Path) -> Rig:
    return Rig(tmp_path, good)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From then on whoever looks at that directory by its path hangs, as in D state; in this process it is an error."""
    here = os.getpid()

    def of(target: Path) -> None:
        def hanging(real: Callable[..., Any]) -> Callable[..., Any]:
            def look(path: Any, *arguments: Any, **options: Any) -> Any:
                if isinstance(path, str) and Path(path).is_relative_to(target):
                    assert os.getpid() != here, f"{path} was looked at, and hangs"
                    time.sleep(600)
                return real(path, *arguments, **options)

            return look

        monkeypatch.setattr(folder, "_DEADLINE", 0.5)
        for name in ("stat", "lstat", "statvfs", "open", "scandir", "listdir"):
            monkeypatch.setattr(os, name, hanging(getattr(os, name)))

    return of
