"""What the writer puts into the file, and what is left when it cannot."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from kdumpd.dumpfile import workers
from kdumpd.dumpfile.format import COMPRESSION, Flags
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.dumpfile.writer import DumpReport, Progress, write_dump
from kdumpd.errors import DumpError, ScanError
from kdumpd.policy.model import CompressionKind
from kdumpd.scan.selection import BitmapSink, PageCounts
from kdumpd.vmcore.memory import Memory
from kdumpd.vmcore.notes import notes_in
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import MIB, VmcoreBuilder
from tests.unit.dumpfile import crash

KINDS = list(CompressionKind)


def contents_of(path: Path) -> dict[int, bytes]:
    with Dump.open(str(path)) as dump:
        return {pfn: dump.page(descriptor) for pfn, descriptor in dump.pages()}


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_page_reads_back_as_it_lay_in_memory(
    core: Vmcore, tmp_path: Path, kind: CompressionKind, jobs: int
) -> None:
    report = crash.dump(core, tmp_path / "dump", crash.options(kind, jobs))
    contents = contents_of(tmp_path / "dump")
    assert report.pages == len(contents) == sum(count for _, count in crash.all_memory(core))
    for pfn, content in contents.items():
        assert content == core.memory.read_page(pfn)
    with Dump.open(str(tmp_path / "dump")) as dump:
        result = verify(dump)
    assert (result.verdict, result.checksum, result.problems) == ("good", "good", ())
    assert (result.zero, result.size) == (report.zero, report.size)


def test_only_the_chosen_pages_are_written_whatever_their_runs(core: Vmcore, tmp_path: Path) -> None:
    runs = [(3, 1), (7, 9), (0x100, 1), (0x12FF, 1100), (0x1780, 40), (crash.PARTIAL_PAGE, 1)]
    report = crash.dump(core, tmp_path / "dump", crash.options(jobs=2), runs)
    assert list(contents_of(tmp_path / "dump")) == [pfn for first, count in runs for pfn in range(first, first + count)]
    assert report.counts.kept == report.pages == sum(count for _, count in runs)


def test_the_page_that_a_pt_load_only_begins_is_kept_with_zeros_behind_it(core: Vmcore, tmp_path: Path) -> None:
    crash.dump(core, tmp_path / "dump", runs=[(crash.PARTIAL_PAGE, 1)])
    page = contents_of(tmp_path / "dump")[crash.PARTIAL_PAGE]
    assert page[:1100] == b"half a page" * 100
    assert page[0x800:] == bytes(0x800)


def test_pages_of_zeros_share_one_raw_page_when_the_level_leaves_them_out(core: Vmcore, tmp_path: Path) -> None:
    crash.dump(core, tmp_path / "dump", crash.options(jobs=2))
    with Dump.open(str(tmp_path / "dump")) as dump:
        zero = dump.descriptor(crash.ZERO_PAGE)
        assert zero is not None
        assert (zero.size, zero.flags) == (4096, Flags.RAW)
        assert zero.offset > 0  # crash takes 0 for a page that was not written
        same = [pfn for pfn, descriptor in dump.pages() if descriptor == zero]
        assert same == [pfn for pfn, descriptor in dump.pages() if dump.page(descriptor) == bytes(4096)]


def test_pages_of_zeros_are_pages_like_others_when_the_level_keeps_them(core: Vmcore, tmp_path: Path) -> None:
    report = crash.dump(core, tmp_path / "dump", crash.options(level=16))
    assert report.zero == 0
    with Dump.open(str(tmp_path / "dump")) as dump:
        first, second = dump.descriptor(crash.ZERO_PAGE), dump.descriptor(crash.ZERO_PAGE + 1)
        assert first is not None
        assert second is not None
        assert first.flags == Flags.ZSTD
        assert first.offset != second.offset


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_compression_does_not_make_smaller_is_stored_raw(
    core: Vmcore, tmp_path: Path, kind: CompressionKind
) -> None:
    report = crash.dump(core, tmp_path / "dump", crash.options(kind))
    with Dump.open(str(tmp_path / "dump")) as dump:
        assert {d.flags for pfn, d in dump.pages() if pfn in crash.RANDOM_PAGES} == {Flags.RAW}
        if kind is not CompressionKind.NONE:
            assert report.raw == len(crash.RANDOM_PAGES)


def test_headers_say_what_crash_and_libkdumpfile_look_for(core: Vmcore, tmp_path: Path) -> None:
    crash.dump(core, tmp_path / "dump")
    with Dump.open(str(tmp_path / "dump")) as dump:
        header, sub_header = dump.header, dump.sub_header
        assert (header.version, header.cpus, header.seconds) == (6, 2, 1700000000)
        assert header.status == Flags.ZSTD
        assert header.utsname == core.uname
        assert header.utsname.machine == b"x86_64"
        assert (sub_header.dump_level, sub_header.split, sub_header.phys_base) == (31, 0, core.phys_base)
        assert sub_header.max_mapnr_64 == header.max_mapnr == core.max_pfn
        assert sub_header.notes_offset == 4096 + 104
        start, size = core.elf.vmcoreinfo
        place = os.pread(os.open(tmp_path / "dump", os.O_RDONLY), size, sub_header.vmcoreinfo_offset)
        assert place == dump.vmcoreinfo == core.elf.notes[start : start + size]
        assert sub_header.vmcoreinfo_size == size
        assert dump.notes.startswith(core.elf.notes)
        owners = [note.owner for note in notes_in(dump.notes)]
        assert owners == [b"CORE", b"CORE", b"VMCOREINFO", b"KDUMPD"]


@pytest.mark.parametrize(
    "info", [{"CRASHTIME": "9" * 20}, {"CRASHTIME": "-5"}, {"CRASHTIME": "soon"}, {"SYMBOL(init_uts_ns)": "x"}]
)
def test_nothing_that_only_adorns_the_header_can_hold_up_the_dump(tmp_path: Path, info: dict[str, str | None]) -> None:
    with Vmcore.open(VmcoreBuilder(((0x100000, 24 * MIB),), info=info).save(tmp_path / "vmcore")) as core:
        crash.dump(core, tmp_path / "dump", runs=[(0x100, 5)])
    with Dump.open(str(tmp_path / "dump")) as dump:
        assert (dump.header.seconds == 0) == ("CRASHTIME" in info)
        assert verify(dump).verdict == "good"


def test_the_file_is_for_its_owner_alone_and_never_replaces_another(core: Vmcore, tmp_path: Path) -> None:
    crash.dump(core, tmp_path / "dump", runs=[(1, 1)])
    assert (tmp_path / "dump").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "dump").read_bytes()
    with pytest.raises(DumpError, match="File exists; remove it or give another name"):
        crash.dump(core, tmp_path / "dump")
    assert (tmp_path / "dump").read_bytes() == before
    with pytest.raises(DumpError, match="make its directory first"):
        crash.dump(core, tmp_path / "nowhere" / "dump")


def test_a_dump_of_no_page_at_all_is_still_a_dump(core: Vmcore, tmp_path: Path) -> None:
    report = crash.dump(core, tmp_path / "dump", crash.options(jobs=2), runs=[])
    assert report.pages == 0
    with Dump.open(str(tmp_path / "dump")) as dump:
        assert verify(dump).verdict == "good"


def test_progress_reaches_the_number_of_pages(core: Vmcore, tmp_path: Path) -> None:
    seen: list[Progress] = []
    report = crash.dump(core, tmp_path / "dump", crash.options(jobs=2), progress=seen.append)
    assert [step.pages for step in seen] == sorted(step.pages for step in seen)
    assert (seen[-1].pages, seen[-1].total, seen[-1].size) == (report.pages, report.pages, report.size)


def test_a_scan_that_fails_or_ends_early_is_no_dump(core: Vmcore, tmp_path: Path) -> None:
    def fails(sink: BitmapSink) -> PageCounts:
        sink.write(b"\xff" * 8)
        raise ScanError("no page structures")

    def ends_early(sink: BitmapSink) -> PageCounts:
        sink.write(b"\xff" * 8)
        return PageCounts(64, 64)

    with pytest.raises(ScanError):
        write_dump(core, str(tmp_path / "a"), crash.options(), fails, None)

    def overruns(sink: BitmapSink) -> PageCounts:
        sink.write(bytes(core.max_pfn))
        return PageCounts(64, 64)

    with pytest.raises(ScanError, match="the scan ended at page frame 64"):
        write_dump(core, str(tmp_path / "b"), crash.options(), ends_early, None)
    with pytest.raises(ScanError, match="more page frames than"):
        write_dump(core, str(tmp_path / "c"), crash.options(), overruns, None)
    with Dump.open(str(tmp_path / "b")) as dump:
        assert dump.incomplete


def readable_part(path: Path, core: Vmcore) -> int:
    """How many pages an incomplete dump holds; each must be right, and the header must say that it is incomplete."""
    with Dump.open(str(path)) as dump:
        assert dump.incomplete
        assert verify(dump).verdict == "incomplete"
        written = [(pfn, descriptor) for pfn, descriptor in dump.pages() if descriptor.offset]
        for pfn, descriptor in written:
            assert dump.page(descriptor) == core.memory.read_page(pfn)
        return len(written)


@pytest.mark.parametrize("jobs", [1, 2])
def test_memory_that_cannot_be_read_leaves_a_dump_of_what_was_read_before(
    vmcore_path: str, core: Vmcore, tmp_path: Path, jobs: int
) -> None:
    cut = tmp_path / "vmcore"
    cut.write_bytes(Path(vmcore_path).read_bytes())
    with Vmcore.open(str(cut)) as damaged:
        os.truncate(cut, cut.stat().st_size - (20 << 20))  # after its headers were checked, as a failing disk does
        with pytest.raises(DumpError, match=r"left incomplete: .*past the end of the file"):
            crash.dump(damaged, tmp_path / "dump", crash.options(CompressionKind.NONE, jobs))
    assert 1024 <= readable_part(tmp_path / "dump", core) < sum(count for _, count in crash.all_memory(core))


class SlowMemory(Memory):
    """Memory of which each read takes a while; from `deadly` on, a read kills the process."""

    def __init__(self, core: Vmcore, seconds: float, deadly: int = 1 << 60) -> None:
        super().__init__(core._fd, core.elf, core.name, core.page_size)
        self._seconds = seconds
        self._deadly = deadly

    def view(self, physical: int, size: int) -> bytes:
        time.sleep(self._seconds)
        if physical >= self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().view(physical, size)


def test_a_worker_that_is_killed_ends_the_dump_with_one_line_and_no_worker_left(core: Vmcore, tmp_path: Path) -> None:
    core.memory = SlowMemory(core, 0.01, deadly=16 << 20)
    with pytest.raises(DumpError, match="a worker was killed by SIGKILL"):
        crash.dump(core, tmp_path / "dump", crash.options(jobs=2))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    with Vmcore.open(core.name) as whole:
        assert readable_part(tmp_path / "dump", whole) >= 1024


def session_members(session: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else []
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields and int(fields[3]) == session and fields[0] != "Z":
            members.append(int(entry.name))
    return members


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_writer_that_is_killed_leaves_no_worker_behind(core: Vmcore, tmp_path: Path, number: signal.Signals) -> None:
    writer = os.fork()
    if not writer:
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            core.memory = SlowMemory(core, 0.3)
            crash.dump(core, tmp_path / "dump", crash.options(jobs=2))
        finally:
            os._exit(1)
    deadline = time.monotonic() + 20
    while len(session_members(writer)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(session_members(writer)) == 3
    os.kill(writer, number)
    os.waitpid(writer, 0)
    while session_members(writer) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_members(writer) == []


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("room", [8192, 400_000, 1 << 20])
def test_a_file_that_may_not_grow_stays_incomplete(core: Vmcore, tmp_path: Path, room: int, jobs: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(DumpError) as caught:
            crash.dump(core, tmp_path / "dump", crash.options(CompressionKind.NONE, jobs))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written: File too large; " in str(caught.value)
    assert "page is in it" in str(caught.value) or "pages are in it, it takes" in str(caught.value)
    assert "\n" not in str(caught.value)
    if room == 1 << 20:
        readable_part(tmp_path / "dump", core)


def test_messages_of_workers_arrive_whole_and_a_worker_without_a_word_is_named() -> None:
    def talkative(report: workers.Report) -> None:
        for _ in range(50):
            report(b"x" * 2000)

    heard: list[bytes] = []
    workers.run(3, talkative, heard.append)
    assert heard == [b"x" * 2000] * 150
    with pytest.raises(DumpError, match="ended with status 3 without saying why"):
        workers.run(2, lambda report: os._exit(3), heard.append)


def test_a_worker_that_a_real_time_signal_killed_is_named_by_number() -> None:
    with pytest.raises(DumpError, match=f"a worker was killed by signal {signal.SIGRTMIN + 3} "):
        workers.run(2, lambda report: os.kill(os.getpid(), signal.SIGRTMIN + 3), print)


def test_a_worker_that_was_waited_for_is_not_killed_again() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    child = os.fork()
    if not child:
        os._exit(7)
    worker = workers.Worker(child, reading)
    assert worker.wait() == 7
    worker.pid = os.getpid()  # as if the number had been given to another process since
    worker.end()


def defective(report: workers.Report) -> None:
    raise ZeroDivisionError("by nothing")


def test_a_defect_in_a_worker_is_told() -> None:
    with pytest.raises(DumpError, match="internal error: ZeroDivisionError: by nothing"):
        workers.run(1, defective, print)


def test_memory_for_one_dump_does_not_grow_with_the_number_of_page_frames(tmp_path: Path) -> None:
    def peak(top: int) -> int:
        path = VmcoreBuilder(((0x1000, 0x9F000), (0x100000, 64 * MIB), (top - MIB, top))).save(tmp_path / "vmcore")
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                with Vmcore.open(path) as core:
                    crash.dump(core, tmp_path / f"dump{top}", runs=[(0x100, 64)])
                os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return int(os.read(read, 64))

    assert peak(8 << 40) < peak(1 << 30) + (8 << 10)  # KiB; one bitmap of 8 TiB alone has 256 MiB


def test_a_machine_whose_memory_ends_at_64_tib_costs_neither_disk_nor_time(tmp_path: Path) -> None:
    ranges = ((0x1000, 0x9F000), (0x100000, 64 * MIB), ((64 << 40) - MIB, 64 << 40))
    path = VmcoreBuilder(ranges).save(tmp_path / "vmcore")
    runs = [(0x100, 64), ((64 << 40) // 4096 - 3, 3)]
    start = time.process_time()
    with Vmcore.open(path) as core:
        crash.dump(core, tmp_path / "dump", runs=runs)
    with Dump.open(str(tmp_path / "dump")) as dump:
        result = verify(dump)
        assert (result.verdict, result.pages, result.checksum) == ("good", 67, "good")
        assert dump.read_page(runs[1][0])
    assert time.process_time() - start < 10  # seconds
    assert (tmp_path / "dump").stat().st_blocks * 512 < 2 * MIB


def test_the_report_tells_the_smallest_size_the_file_could_have(core: Vmcore, tmp_path: Path) -> None:
    report: DumpReport = crash.dump(core, tmp_path / "dump")
    with Dump.open(str(tmp_path / "dump")) as dump:
        first = min(d.offset for _, d in dump.pages() if d.flags & COMPRESSION)
        assert report.smallest == first == dump.layout.descriptors + 24 * report.pages + 4096
