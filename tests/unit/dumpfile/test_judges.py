"""drgn and libkdumpfile read from our dumps what lay in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdumpd.dumpfile.reader import Dump
from kdumpd.errors import DumpError
from kdumpd.policy.model import CompressionKind
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.libkdumpfile import LibKdumpFile
from tests.unit.dumpfile import crash
from tests.unit.dumpfile.judges import Attributes, open_with_drgn

HOLE = (24 << 20) // 4096  # no memory


@pytest.mark.parametrize("level", [0, 31])
@pytest.mark.parametrize("kind", list(CompressionKind))
def test_libkdumpfile_reads_every_page_as_it_lay_in_memory(
    core: Vmcore, tmp_path: Path, kind: CompressionKind, level: int
) -> None:
    crash.dump(core, tmp_path / "dump", crash.options(kind, 2, level))
    with LibKdumpFile(tmp_path / "dump") as judge:
        for first, count in crash.all_memory(core):
            for pfn in range(first, first + count):
                assert judge.read_page(pfn) == core.memory.read_page(pfn)
        with pytest.raises(ValueError, match=f"page {HOLE}"):
            judge.read_page(HOLE)


def test_libkdumpfile_finds_who_crashed_and_vmcoreinfo_in_the_notes(core: Vmcore, dump_path: Path) -> None:
    with Attributes(dump_path) as judge:
        assert judge.text("linux.uts.release") == core.uname.release
        assert judge.text("linux.uts.machine") == b"x86_64"
        assert judge.text("arch.name") == b"x86_64"
        assert judge.text("linux.vmcoreinfo.lines.OSRELEASE") == core.info.release.encode()
        assert judge.number("arch.page_size") == 4096
        assert judge.number("max_pfn") == core.max_pfn
        assert judge.number("cpu.number") == core.elf.prstatus_count


@pytest.mark.parametrize("kind", list(CompressionKind))
def test_drgn_reads_every_page_as_it_lay_in_memory(core: Vmcore, tmp_path: Path, kind: CompressionKind) -> None:
    crash.dump(core, tmp_path / "dump", crash.options(kind, 2))
    program = open_with_drgn(tmp_path / "dump")
    for first, count in crash.all_memory(core):
        for pfn in range(first, first + count, 3):
            assert program.read(pfn * 4096, 4096, True) == core.memory.read_page(pfn)


def test_an_incomplete_dump_is_opened_by_both_as_far_as_it_goes(vmcore_path: str, core: Vmcore, tmp_path: Path) -> None:
    cut = tmp_path / "vmcore"
    cut.write_bytes(Path(vmcore_path).read_bytes())
    with Vmcore.open(str(cut)) as damaged:
        os.truncate(cut, cut.stat().st_size - (16 << 20))
        with pytest.raises(DumpError):
            crash.dump(damaged, tmp_path / "dump", crash.options())
    with Dump.open(str(tmp_path / "dump")) as dump, LibKdumpFile(tmp_path / "dump") as judge:
        program = open_with_drgn(tmp_path / "dump")
        written = [pfn for pfn, descriptor in dump.pages() if descriptor.offset]
        assert len(written) >= 1024
        for pfn in written:
            expected = core.memory.read_page(pfn)
            assert judge.read_page(pfn) == expected
            assert program.read(pfn * 4096, 4096, True) == expected
