"""Whether KVM is of use is tried once a boot, and never believed of another processor."""

from __future__ import annotations

import os
from pathlib import Path

from kdumpd.rehearse.kvm import kvm_works


def test_another_processors_guest_never_runs_under_kvm(tmp_path: Path) -> None:
    other = "qemu-system-aarch64" if os.uname().machine == "x86_64" else "qemu-system-x86_64"
    assert not kvm_works(other, Path("/nonexistent"), tmp_path)
    assert not (tmp_path / "kvm").exists()


def test_an_answer_of_this_boot_is_kept_and_one_of_another_boot_is_not(tmp_path: Path) -> None:
    program = f"qemu-system-{os.uname().machine}"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    (tmp_path / "kvm").write_text(f"{boot} works\n")
    assert kvm_works(program, Path("/nonexistent"), tmp_path) is usable
    (tmp_path / "kvm").write_text("another-boot works\n")
    assert not kvm_works(program, Path("/nonexistent"), tmp_path)
