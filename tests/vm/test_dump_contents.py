"""Dumps of kernels that really crashed: every page as in the vmcore, and the same for readers that are not ours.

makedumpfile's dump of the same vmcore says what the headers should be; its dumps are read by ours in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import drgn
import pytest

from kdumpd.dumpfile import bitmap
from kdumpd.dumpfile.format import Flags
from kdumpd.dumpfile.info import info
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.dumpfile.writer import WriteOptions, write_dump
from kdumpd.errors import DumpError
from kdumpd.policy.model import Compression, CompressionKind, PageKind
from kdumpd.scan import user
from kdumpd.vmcore.notes import notes_in
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab import peers
from tests.lab.libkdumpfile import LibKdumpFile
from tests.vm.conftest import CrashOf

RECIPES = ("6.1", "6.1-nokaslr", "6.1-high", "6.12", "newest")
PAGE = 4096


def write(vmcore: Path, output: Path, level: int, kind: CompressionKind, jobs: int) -> None:
    options = WriteOptions(PageKind(level), Compression(kind, 1), jobs, bool(level & PageKind.ZERO))
    with Vmcore.open(str(vmcore)) as core:
        write_dump(core, str(output), options, lambda sink: user.scan(core, PageKind(level), (), sink), None)


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def vmcore(crash_of: CrashOf, recipe: str) -> Path:
    return crash_of(recipe).vmcore


@pytest.fixture(scope="module")
def dump(vmcore: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("dump") / "dump"
    write(vmcore, path, 31, CompressionKind.ZSTD, 2)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def peers_dump(vmcore: Path, makedumpfile: peers.Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("peer") / "dump"
    makedumpfile.run("-z", "-d", "31", vmcore, path)
    yield path
    path.unlink()


def test_every_page_is_the_vmcores_for_our_reader_libkdumpfile_and_drgn(vmcore: Path, dump: Path) -> None:
    program = drgn.Program()
    program.set_core_dump(str(dump))
    count = 0
    with Vmcore.open(str(vmcore)) as core, Dump.open(str(dump)) as ours, LibKdumpFile(dump) as library:
        for pfn, descriptor in ours.pages():
            page = core.memory.read_page(pfn)
            assert ours.page(descriptor) == page
            assert library.read_page(pfn) == page
            assert program.read(pfn * PAGE, PAGE, True) == page
            count += 1
        assert count > 10_000
        assert verify(ours).verdict == "good"


def test_headers_are_those_of_makedumpfiles_dump(dump: Path, peers_dump: Path) -> None:
    with Dump.open(str(dump)) as ours, Dump.open(str(peers_dump)) as theirs:
        assert ours.header._replace(sub_header_blocks=0) == theirs.header._replace(sub_header_blocks=0)
        assert ours.vmcoreinfo == theirs.vmcoreinfo
        assert ours.notes.startswith(theirs.notes)
        assert [note.owner for note in notes_in(ours.notes)][-1] == b"KDUMPD"
        mine, peer = ours.sub_header, theirs.sub_header
        assert mine._replace(notes_size=0) == peer._replace(notes_size=0)
        assert b"".join(ours.bitmap(1)) == b"".join(theirs.bitmap(1))


def test_makedumpfile_reads_our_dump(dump: Path, vmcore: Path, makedumpfile: peers.Program, tmp_path: Path) -> None:
    makedumpfile.run("--dump-dmesg", dump, tmp_path / "from-dump")
    makedumpfile.run("--dump-dmesg", vmcore, tmp_path / "from-vmcore")
    log = (tmp_path / "from-dump").read_bytes()
    assert log == (tmp_path / "from-vmcore").read_bytes()
    with Dump.open(str(dump)) as ours:
        assert b"".join(ours.dmesg()) == log


@pytest.mark.parametrize("kind", ["-z", "-c"])
def test_our_reader_reads_makedumpfiles_dump(
    vmcore: Path, makedumpfile: peers.Program, tmp_path: Path, kind: str
) -> None:
    makedumpfile.run(kind, "-d", "31", vmcore, tmp_path / "dump")
    with Vmcore.open(str(vmcore)) as core, Dump.open(str(tmp_path / "dump")) as theirs:
        result = verify(theirs)
        assert (result.verdict, result.checksum) == ("good", "none")
        for pfn, descriptor in theirs.pages():
            assert theirs.page(descriptor) == core.memory.read_page(pfn)
        assert info(theirs).written_by is None


def test_info_names_the_panic(dump: Path) -> None:
    with Dump.open(str(dump)) as ours:
        assert info(ours).panic == "Kernel panic - not syncing: sysrq triggered crash"


def test_a_dump_compressed_in_a_way_that_python_lacks_is_told_so(
    crash_of: CrashOf, makedumpfile: peers.Program, tmp_path: Path
) -> None:
    makedumpfile.run("-l", "-d", "31", crash_of("6.1").vmcore, tmp_path / "dump")
    with Dump.open(str(tmp_path / "dump")) as theirs:
        assert theirs.compression == Flags.LZO
        assert b"".join(theirs.bitmap(2))
        with pytest.raises(DumpError, match="compressed by LZO, which kdumpd cannot read"):
            for _, descriptor in theirs.pages():
                theirs.page(descriptor)


@pytest.mark.parametrize(
    ("kind", "level"), [(CompressionKind.ZSTD, 0), (CompressionKind.NONE, 1), (CompressionKind.ZLIB, 16)]
)
def test_levels_that_keep_most_of_memory_read_back_the_same(
    crash_of: CrashOf, tmp_path: Path, kind: CompressionKind, level: int
) -> None:
    vmcore = crash_of("6.1").vmcore
    write(vmcore, tmp_path / "dump", level, kind, 2)
    with Vmcore.open(str(vmcore)) as core, Dump.open(str(tmp_path / "dump")) as ours:
        read_back = ((pfn, ours.page(descriptor)) for pfn, descriptor in ours.pages())
        assert all(page == core.memory.read_page(pfn) for pfn, page in read_back)
        if level in (0, 1):
            in_dump, memory = (sum(map(bitmap.count, ours.bitmap(number))) for number in (2, 1))
            with LibKdumpFile(tmp_path / "dump") as library:
                for pfn, _ in ours.pages():
                    assert library.read_page(pfn) == core.memory.read_page(pfn)
            assert memory - in_dump <= memory // 100  # hwpoison, offline
    (tmp_path / "dump").unlink()
