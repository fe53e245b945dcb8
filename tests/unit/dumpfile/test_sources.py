"""Where the writer takes pages from: a source of its own, and the vmcore where that one fails."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from kdumpd.dumpfile import workers
from kdumpd.dumpfile.bitmap import Run
from kdumpd.dumpfile.pages import ChunkDone, VmcorePages
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.dumpfile.writer import DumpReport, WriteOptions, write_dump
from kdumpd.errors import ScanError
from kdumpd.policy.model import CompressionKind
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class Counted:
    """The vmcore's pages, until `last` chunks were asked for; what was asked is written to a file, by all workers."""

    def __init__(self, core: Vmcore, log: Path, last: int = 1 << 30) -> None:
        self._pages = VmcorePages(core.memory)
        self._log = log
        self._left = last

    def pages(self, runs: list[Run]) -> list[memoryview]:
        if not self._left:
            raise ScanError("the device went away")
        self._left -= 1
        with self._log.open("a") as log:
            log.write(f"{sum(count for _, count in runs)}\n")
        return self._pages.pages(runs)


def dumped(core: Vmcore, folder: Path, source: Counted, how: WriteOptions) -> DumpReport:
    select = crash.select_runs(core, crash.all_memory(core))
    return write_dump(core, str(folder / "dump"), how, select, None, lambda: source)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("level", [31, 16])
def test_a_source_gives_every_page_and_the_dump_is_the_same(
    core: Vmcore, tmp_path: Path, level: int, jobs: int
) -> None:
    how = crash.options(CompressionKind.NONE, 1, level)
    plain = crash.dump(core, tmp_path / "plain", how)
    report = dumped(core, tmp_path, Counted(core, tmp_path / "log"), how._replace(jobs=jobs))
    assert report.trouble == ""
    assert sum(map(int, (tmp_path / "log").read_text().split())) == report.pages == plain.pages
    if jobs == 1:
        assert (tmp_path / "dump").read_bytes() == (tmp_path / "plain").read_bytes()
    with Dump.open(str(tmp_path / "dump")) as dump:
        assert verify(dump).verdict == "good"


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("last", [0, 3])
def test_the_vmcore_takes_over_from_a_source_that_fails(core: Vmcore, tmp_path: Path, last: int, jobs: int) -> None:
    report = dumped(core, tmp_path, Counted(core, tmp_path / "log", last), crash.options(jobs=jobs))
    assert report.trouble == "the device went away"
    assert report.pages == sum(count for _, count in crash.all_memory(core))
    with Dump.open(str(tmp_path / "dump")) as dump:
        for pfn, descriptor in dump.pages():
            assert dump.page(descriptor) == core.memory.read_page(pfn)


def test_what_became_of_a_chunk_survives_the_pipe() -> None:
    one, other = ChunkDone(1, 2, 3, 1 << 40), ChunkDone(1, 1, 1, 1, "why")
    assert ChunkDone.unpack(one.pack()) == one
    assert ChunkDone.unpack(other.pack()) == other
    assert one.plus(other).plus(ChunkDone(trouble="later")) == ChunkDone(2, 3, 4, (1 << 40) + 1, "why")


def cleans_up(number: int, frame: FrameType | None) -> None:
    """What `kdumpd dump` does on a hangup: the parent's to do."""


@pytest.mark.parametrize(
    ("before", "expected"),
    [(signal.SIG_DFL, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN), (cleans_up, signal.SIG_DFL)],
)
def test_a_worker_ends_by_a_hangup_unless_nohup_set_it_aside(before: Handler, expected: Handler) -> None:
    heard: list[bytes] = []
    restore = signal.signal(signal.SIGHUP, before)
    try:
        workers.run(1, lambda report: report(repr(signal.getsignal(signal.SIGHUP)).encode()), heard.append)
    finally:
        signal.signal(signal.SIGHUP, restore)
    assert heard == [repr(expected).encode()]
