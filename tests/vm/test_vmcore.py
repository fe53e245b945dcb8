"""Real crashes, read as makedumpfile, pyelftools and drgn read them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from subprocess import run

import drgn
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from kdumpd.cli.main import main
from kdumpd.vmcore.kallsyms import address_of
from kdumpd.vmcore.mem_map import physical_ranges
from kdumpd.vmcore.memory import Ranges
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab.peers import Program
from tests.vm.conftest import CrashOf

X86_64 = [
    "6.1",
    "6.1-nokaslr",
    "6.12",
    "newest",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.1-high", "6.1-numa", "6.12-hvo")),
]
ALL = [*X86_64, pytest.param("arm64", marks=pytest.mark.matrix)]


@pytest.fixture(params=ALL)
def vmcore(request: pytest.FixtureRequest, crash_of: CrashOf) -> str:
    return str(crash_of(request.param).vmcore)


@pytest.fixture(params=X86_64)
def x86_64_vmcore(request: pytest.FixtureRequest, crash_of: CrashOf) -> str:
    return str(crash_of(request.param).vmcore)


def test_headers_and_notes_are_what_pyelftools_reads(vmcore: str) -> None:
    with Path(vmcore).open("rb") as file, Vmcore.open(vmcore) as core:
        theirs = ELFFile(file)
        loads = [segment for segment in theirs.iter_segments() if segment["p_type"] == "PT_LOAD"]
        notes = [n for s in theirs.iter_segments() if isinstance(s, NoteSegment) for n in s.iter_notes()]
        assert [tuple(segment) for segment in core.elf.segments] == [
            (s["p_paddr"], s["p_vaddr"], s["p_memsz"], s["p_filesz"], s["p_offset"]) for s in loads
        ]
        assert core.elf.prstatus_count == sum(n["n_type"] == "NT_PRSTATUS" for n in notes)
        (vmcoreinfo,) = [n["n_descdata"] for n in notes if n["n_name"] == "VMCOREINFO"]
        start, size = core.elf.vmcoreinfo
        assert core.elf.notes[start : start + size] == vmcoreinfo


def test_dmesg_is_makedumpfiles_byte_for_byte(
    x86_64_vmcore: str,
    makedumpfile: Program,
    makedumpfile_13: Program,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert main(["dmesg", x86_64_vmcore]) == 0
    ours = capfdbinary.readouterr().out
    assert b"Kernel panic - not syncing" in ours
    for peer in (makedumpfile, makedumpfile_13):
        theirs = tmp_path / peer.version
        peer.run("--dump-dmesg", x86_64_vmcore, theirs)
        assert ours == theirs.read_bytes()


def test_dmesg_without_callers_is_that_of_makedumpfile_before_1_7_5(x86_64_vmcore: str, tmp_path: Path) -> None:
    version = run(["makedumpfile", "-v"], capture_output=True, text=True, check=True).stdout.split()[2]
    theirs = tmp_path / "theirs"
    run(["makedumpfile", "--dump-dmesg", x86_64_vmcore, str(theirs)], capture_output=True, check=True)
    with Vmcore.open(x86_64_vmcore) as core:
        callers = tuple(map(int, version.split("."))) >= (1, 7, 5)
        assert b"".join(core.dmesg(callers=callers)) == theirs.read_bytes()


def test_every_structure_is_where_the_page_tables_say(vmcore: str) -> None:
    """The runs, made leaf by leaf and joined, against each page of vmemmap translated on its own."""
    with Vmcore.open(vmcore) as core:
        virtual = _vmemmap(core)
        runs = list(core.mem_map())
        for mem_run in runs:
            for pfn in range(mem_run.first_pfn, mem_run.first_pfn + mem_run.pages, 4096 // 64):
                at = mem_run.physical + (pfn - mem_run.first_pfn) * 64
                assert core.tables.translate(virtual + pfn * 64) == at
        assert all(before.first_pfn + before.pages <= after.first_pfn for before, after in pairwise(runs))
        with_structure = Ranges((r.first_pfn * 4096, (r.first_pfn + r.pages) * 4096) for r in runs)
        for part in core.memory.ranges:
            assert any(start <= part.start and part.end <= end for start, end in with_structure)


def test_structures_and_memory_are_what_drgn_reads(vmcore: str) -> None:
    program = drgn.Program()
    program.set_core_dump(vmcore)
    generator = Random(1)
    with Vmcore.open(vmcore) as core:
        virtual = _vmemmap(core)
        runs = list(core.mem_map())
        for _ in range(300):
            mem_run = generator.choice(runs)
            index = generator.randrange(mem_run.pages)
            ours = core.memory.view(mem_run.physical + index * 64, 64)
            assert ours == program.read(virtual + (mem_run.first_pfn + index) * 64, 64)
            part = generator.choice(core.memory.ranges)
            start = generator.randrange(part.start, part.end - 8192)
            size = generator.randrange(1, 8192)
            assert core.memory.read(start, size) == program.read(start, size, physical=True)
            assert core.memory.view(start, size) == program.read(start, size, physical=True)


@pytest.mark.matrix
def test_uname_and_free_pages_are_the_kernels_over_four_nodes(crash_of: CrashOf) -> None:
    crash = crash_of("6.1-numa")
    with Vmcore.open(str(crash.vmcore)) as core:
        assert core.uname.release.decode() == crash.kernel.release
        assert core.uname.machine == b"x86_64"
        free = core.free_pages()
        assert free is not None
        assert 0.5 < free / sum((end - start) // 4096 for start, end in core.memory.ranges) < 1


def test_kallsyms_lead_to_what_vmcoreinfo_names_and_to_the_sum_of_all_zones(vmcore: str) -> None:
    with Vmcore.open(vmcore) as core:
        if core.info.symbol("kallsyms_names") is None:
            assert core.info.version < (6, 0)
            return
        assert address_of(b"init_uts_ns", core.info, core.read_virtual) == core.info.symbol("init_uts_ns")
        counters = address_of(b"vm_zone_stat", core.info, core.read_virtual)
        assert counters is not None
        assert int.from_bytes(core.read_virtual(counters, 8), "little") == core.free_pages()


def test_mem_map_of_the_newest_kernel_is_laid_out_downwards(crash_of: CrashOf) -> None:
    with Vmcore.open(str(crash_of("newest").vmcore)) as core:
        runs = list(core.mem_map())
        assert len(runs) > len(list(physical_ranges(runs, 64)))


@pytest.mark.matrix
def test_a_vmcore_that_qemu_wrote_is_read_alike(crash_of: CrashOf) -> None:
    with Vmcore.open(str(crash_of("6.1-live").vmcore)) as core:
        assert core.crash_time is None
        assert sum(mem_run.pages for mem_run in core.mem_map()) >= 512 * 256 * 0.9
        assert b"Linux version" in next(core.dmesg())


def _vmemmap(core: Vmcore) -> int:
    """Where pfn 0's structure would lie: the address in the first section that is there, its flags taken off."""
    info = core.info
    table = int.from_bytes(core.read_virtual(info.need(info.symbol("mem_section"), "SYMBOL(mem_section)"), 8), "little")
    size = info.need(info.size("mem_section"), "SIZE(mem_section)")
    root = core.read_virtual(table, 4096)
    words = (int.from_bytes(root[at : at + 8], "little") for at in range(0, 4096, size))
    return next(word for word in words if word) & ~0xFF
