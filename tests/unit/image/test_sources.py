"""What an image is made from, file by file: whatever changes shows, under a name that says what."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.image import build, closure
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.unit.image.elf import module
from tests.unit.image.kerneltree import RELEASE, tree

TARGET = CaptureTarget("UUID=1", "ext4", "/var/crash", "/var/crash", ("qla2xxx",))


@pytest.fixture
def step(tmp_path: Path) -> BuildImage:
    return BuildImage(
        RELEASE, tree(tmp_path), "{}", (TARGET,), tmp_path / "capture.img", firmware=tmp_path / "lib/firmware"
    )


def sources(step: BuildImage) -> Mapping[str, str]:
    return build.inputs(step).sources


def changed(step: BuildImage, path: Path, data: bytes) -> list[str]:
    before = sources(step)
    path.write_bytes(data)
    after = sources(step)
    assert before.keys() == after.keys()
    return [name for name in after if after[name] != before[name]]


def test_a_kernel_module_and_firmware_count_by_their_content(step: BuildImage) -> None:
    path = step.modules / "kernel/fs/ext4/ext4.ko.xz"
    assert changed(step, path, lzma.compress(module("name=ext4", "version=2"))) == [
        f"usr/lib/modules/{RELEASE}/kernel/fs/ext4/ext4.ko"
    ]
    assert changed(step, step.firmware / "ql2400_fw.bin.xz", lzma.compress(b"newer")) == [
        "usr/lib/firmware/ql2400_fw.bin"
    ]


def test_the_interpreter_its_libraries_zstandard_and_the_dracut_module_count(step: BuildImage) -> None:
    found = sources(step)
    of = closure.running()
    assert str(of.interpreter) in found
    assert str(of.package / "capture/runner.py") in found
    names = {Path(path).name.partition(".")[0] for path in found}
    assert {"libc", "backend_c", "module-setup", "kdumpd-capture", "struct"} <= names


def test_another_folder_that_holds_the_same_kernel_is_no_other_source(step: BuildImage, tmp_path: Path) -> None:
    again = tree(tmp_path / "mounted")
    moved = replace(step, modules=again, firmware=tmp_path / "mounted/lib/firmware")
    assert sources(moved) == sources(step)
