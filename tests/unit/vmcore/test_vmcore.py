"""What can be asked of an opened vmcore."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.cli.main import main
from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import X86_64
from kdumpd.vmcore.note_search import notes_in_memory
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.printk import Record, put_log
from tests.builders.vmcore import DIRECT, MIB, STRUCTURES, VmcoreBuilder, note
from tests.builders.vmcoreinfo import text


def test_a_vmcore_says_what_crashed_and_when(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.utsname(b"Linux", b"db7", b"6.1.0-50-amd64", b"#1 SMP Debian", b"x86_64", b"(none)")
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.machine == X86_64
        assert core.uname.nodename == b"db7"
        assert core.uname.version == b"#1 SMP Debian"
        assert core.crash_time == 1795503600
        assert core.page_size == 4096
        assert core.max_pfn == 256 * MIB // 4096


def test_a_partial_last_page_counts(tmp_path: Path) -> None:
    with Vmcore.open(VmcoreBuilder(((0x100000, 32 * MIB + 1),)).save(tmp_path / "vmcore")) as core:
        assert core.max_pfn == 32 * MIB // 4096 + 1


def test_free_pages_are_summed_over_the_zones(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.free_pages(3, 70000, -2)  # a counter may lag below zero
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.free_pages() == 70003


@pytest.mark.parametrize(
    "info",
    [
        {"OFFSET(zone.vm_stat)": None},
        {"NUMBER(NR_FREE_PAGES)": None},
        {"SYMBOL(node_data)": None},
        {"SYMBOL(node_data)": "1000"},
        {"LENGTH(node_data)": None},
        {"OFFSET(pglist_data.nr_zones)": "99999999999999"},
    ],
)
def test_free_pages_that_cannot_be_had_are_none(tmp_path: Path, info: dict[str, str | None]) -> None:
    builder = VmcoreBuilder()
    builder.free_pages(5)
    builder.info.update(info)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.free_pages() is None


def test_a_kernel_without_numa_has_one_node(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.free_pages(5)
    builder.info.update({"SYMBOL(node_data)": None, "SYMBOL(contig_page_data)": f"{DIRECT + 0x210000:x}"})
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.free_pages() == 5


def test_memory_is_read_by_the_program_headers_when_the_page_tables_are_gone(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.write(STRUCTURES, b"still there")
    builder.write(0x300000, bytes(4096))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.read_virtual(DIRECT + STRUCTURES, 11) == b"still there"
        with pytest.raises(VmcoreError, match="not mapped"):
            core.read_virtual(0xFFFFC90000000000, 8)


class _WithoutNote(VmcoreBuilder):
    """As QEMU writes a vmcore of a guest that did not tell it where the note is."""

    def notes(self) -> bytes:
        return note(b"CORE", 1, bytes(336)) + note(b"QEMU", 0, bytes(433))


def test_a_note_that_is_missing_is_found_in_memory(tmp_path: Path) -> None:
    builder = _WithoutNote()
    put_log(builder, [Record(b"still there")])
    builder.write(STRUCTURES + 5 * MIB, note(b"VMCOREINFO", 0, text(builder.info)))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        start, size = core.elf.vmcoreinfo
        assert core.elf.notes[start : start + size] == text(builder.info)
        assert core.elf.prstatus_count == 1
        assert list(core.dmesg()) == [b"[    0.000000] still there\n"]


def test_the_note_of_a_kernel_that_ran_before_is_not_believed(tmp_path: Path) -> None:
    builder = _WithoutNote()
    before = {**builder.info, "OSRELEASE": "5.10.0-1-amd64"}
    builder.write(STRUCTURES + 4 * MIB, note(b"VMCOREINFO", 0, text(before)))
    builder.write(STRUCTURES + 5 * MIB, note(b"VMCOREINFO", 0, text({**before, "PAGESIZE": "none"})))
    builder.write(STRUCTURES + 6 * MIB + 8, note(b"VMCOREINFO", 0, text(builder.info)))  # a copy, not the kernel's own
    builder.write(STRUCTURES + 7 * MIB, note(b"VMCOREINFO", 0, text(builder.info)))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.info.release == "6.1.0-50-amd64"


def test_a_vmcore_that_cannot_be_opened_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"no vmcore")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(VmcoreError):
        Vmcore.open(str(path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_dmesg_prints_the_log(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    builder = VmcoreBuilder()
    put_log(builder, [Record(b"Linux version 6.1"), Record(b"Kernel panic - not syncing", 5_000_000)])
    assert main(["dmesg", builder.save(tmp_path / "vmcore")]) == 0
    assert (
        capfdbinary.readouterr().out == b"[    0.000000] Linux version 6.1\n[    0.005000] Kernel panic - not syncing\n"
    )


def test_dmesg_of_what_is_no_vmcore_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(bytes(100))
    assert main(["dmesg", str(path)]) == 1
    error = capfd.readouterr().err
    assert error.startswith(f"kdumpd dmesg: {path}: not a little-endian ELF64 file")
    assert error.count("\n") == 1


def test_no_more_than_64_notes_are_tried(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    false_note = note(b"VMCOREINFO", 0, b"PAGESIZE=4096\nOSRELEASE=another\n")
    for page in range(100):
        builder.write(STRUCTURES + page * 4096, false_note)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert list(notes_in_memory(core.memory)) == [false_note] * 64
