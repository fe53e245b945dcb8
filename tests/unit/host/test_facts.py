"""Facts about the machine, from text."""

from __future__ import annotations

from pathlib import Path

from kdumpd.host import facts
from kdumpd.host.iomem import ranges_named, total
from tests.unit.host.machine import IOMEM, FakeMachine


def test_the_reservation_is_what_iomem_calls_crash_kernel() -> None:
    ranges = ranges_named(IOMEM, "Crash kernel")
    assert ranges == ((0x60000000, 0x6C000000),)
    assert total(ranges) == 192 << 20


def test_a_reader_without_privilege_sees_no_range() -> None:
    assert ranges_named("00000000-00000000 : Crash kernel\n", "Crash kernel") == ()


def test_facts_of_a_machine(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    (tmp_path / "root/lib/modules/6.1.0-9-test").mkdir(parents=True)
    machine.write("root/boot/vmlinuz-6.1.0-9-test", "")
    found = facts.read(tmp_path / "root", machine.places)
    assert found.kernel.release == "6.1.0-9-test"
    assert found.kernel.vmlinuz == tmp_path / "root/boot/vmlinuz-6.1.0-9-test"
    assert (found.machine, found.hostname, found.boot_id) == ("x86_64", "fake", "boot-1")
    assert (found.cpus, found.boot_cpu, found.reservation) == (2, 2, 192 << 20)
    assert (found.has_kexec, found.loaded) == (True, False)


def test_the_newer_files_of_6_19_are_read_where_the_old_ones_are_gone(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel" / "kexec"
    kernel.mkdir(parents=True)
    (kernel / "crash_loaded").write_text("1\n")
    (kernel / "crash_size").write_text("134217728\n")
    assert facts.crash_state(tmp_path) == (True, True, 128 << 20)


def test_a_kernel_without_kexec_has_neither(tmp_path: Path) -> None:
    assert facts.crash_state(tmp_path) == (False, False, None)


def test_a_vmlinuz_beside_its_modules_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/modules/7.2"
    folder.mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(b"")
    found = facts.kernel_files("7.2", tmp_path)
    assert (found.vmlinuz, found.modules) == (folder / "vmlinuz", folder)
