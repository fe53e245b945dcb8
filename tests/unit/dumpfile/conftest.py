"""One vmcore and one dump of it for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import Verification, verify
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash
from tests.unit.dumpfile.changes import Change, Changed


@pytest.fixture(scope="session")
def vmcore_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crash.save_vmcore(tmp_path_factory.mktemp("vmcore") / "vmcore")


@pytest.fixture
def core(vmcore_path: str) -> Iterator[Vmcore]:
    with Vmcore.open(vmcore_path) as core:
        yield core


@pytest.fixture(scope="session")
def dump_path(vmcore_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good dump; copy it before you change it."""
    path = tmp_path_factory.mktemp("dump") / "dump"
    with Vmcore.open(vmcore_path) as core:
        crash.dump(core, path)
    return path


@pytest.fixture
def changed(dump_path: Path, tmp_path: Path) -> Changed:
    """Verifies a copy of the good dump in which something was changed."""

    def verification(change: Change) -> Verification:
        content = bytearray(dump_path.read_bytes())
        change(content)
        (tmp_path / "changed").write_bytes(content)
        with Dump.open(str(tmp_path / "changed")) as dump:
            return verify(dump)

    return verification
