"""A crash of Debian's arm64 kernel, read as makedumpfile for arm64 reads it (under qemu-user)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kdumpd.cli.main import main
from kdumpd.dumpfile.reader import Dump
from kdumpd.rehearse.packages import Archive
from tests.lab.peers import NEWEST, Program, with_libraries
from tests.vm.conftest import CrashOf

pytestmark = pytest.mark.matrix


@pytest.fixture(scope="module")
def makedumpfile_arm64() -> Program:
    """Debian's newest makedumpfile for arm64."""
    version, folder = with_libraries(Archive("arm64", say=print), "makedumpfile", NEWEST)
    host = Archive("amd64", say=print)
    qemu = host.candidates("qemu-user-static")[-1].version  # the oldest: Debian 12's is still statically linked
    emulator = host.fetch({"qemu-user-static": qemu}, f"qemu-user-static_{qemu}".replace(":", "_"))
    loader = next(folder.rglob("ld-linux-aarch64.so.1"))
    binary = next(path for path in folder.rglob("makedumpfile") if path.parent.name in ("bin", "sbin"))
    libraries = folder / "usr/lib/aarch64-linux-gnu"
    argv = (emulator / "usr/bin/qemu-aarch64-static", "-L", folder, loader, "--library-path", libraries, binary)
    return Program(tuple(map(str, argv)), version)


@pytest.fixture(scope="module")
def understood(crash_of: CrashOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vmcore as makedumpfile up to 1.7.8 understands it.

    It refuses 4 KiB pages with VA_BITS=52, which the processor here does not have: the tables are those of 48 bits.
    """
    path = tmp_path_factory.mktemp("arm64") / "vmcore"
    shutil.copy(crash_of("arm64").vmcore, path)
    with path.open("r+b") as file:
        place = file.read(1 << 20).find(b"NUMBER(VA_BITS)=52")
        if place >= 0:
            file.seek(place)
            file.write(b"NUMBER(VA_BITS)=48")
    return path


def test_dmesg_is_makedumpfiles_byte_for_byte(
    crash_of: CrashOf,
    understood: Path,
    makedumpfile_arm64: Program,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert main(["dmesg", str(crash_of("arm64").vmcore)]) == 0
    makedumpfile_arm64.run("--dump-dmesg", understood, tmp_path / "theirs")
    assert capfdbinary.readouterr().out == (tmp_path / "theirs").read_bytes()


def test_kept_pages_are_makedumpfiles(
    crash_of: CrashOf, understood: Path, makedumpfile_arm64: Program, tmp_path: Path
) -> None:
    assert main(["dump", str(crash_of("arm64").vmcore), str(tmp_path / "ours")]) == 0
    makedumpfile_arm64.run("-l", "-d", "31", understood, tmp_path / "theirs")
    assert _kept(tmp_path / "ours") == _kept(tmp_path / "theirs")


def _kept(path: Path) -> set[int]:
    with Dump.open(str(path)) as dump:
        return {pfn for pfn, _ in dump.pages()}
