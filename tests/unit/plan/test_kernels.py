"""Which of the installed kernels is newer than the running one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.plan import kernels


def install(root: Path, release: str, *, vmlinuz: bool = True) -> None:
    modules = root / "lib/modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    if vmlinuz:
        (root / "boot").mkdir(exist_ok=True)
        (root / "boot" / f"vmlinuz-{release}").touch()


@pytest.mark.parametrize(
    ("running", "newer"),
    [
        ("6.1.0-9-amd64", "6.12.3-1-amd64"),
        ("6.12.3-1-amd64", ""),
        ("6.12.3-1-rt-amd64", ""),
        ("7.0-rc1", ""),
        ("6.2.0", "6.12.3-1-amd64"),
    ],
)
def test_the_newest_whole_kernel_above_the_running_one(tmp_path: Path, running: str, newer: str) -> None:
    for release in ("6.1.0-9-amd64", "6.1.0-10-amd64", "6.12.3-1-amd64"):
        install(tmp_path, release)
    install(tmp_path, "6.13.0-1-amd64", vmlinuz=False)  # what a removed kernel leaves
    assert kernels.newer(tmp_path, running) == newer


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    install(tmp_path, "6.1.0-9-amd64")
    install(tmp_path, "6.1.0-10-amd64")
    assert kernels.newest(tmp_path) == "6.1.0-10-amd64"
    assert kernels.newest(tmp_path / "nothing") == ""
