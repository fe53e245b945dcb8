"""From a vmcore to a finished dump: names, checks, and what is left after a failure."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdumpd.capture.save import (
    Chosen,
    FreePages,
    SaveOptions,
    Watch,
    as_json,
    check,
    compare_free_pages,
    named_on_disk,
    require_room_unfiltered,
    save_dump,
)
from kdumpd.cli.main import main
from kdumpd.dumpfile.reader import Dump
from kdumpd.errors import DumpError
from kdumpd.policy.model import Compression, CompressionKind, EngineChoice, PageKind
from kdumpd.scan.device import Leaves
from kdumpd.scan.engine import PagesMap, ScanReport
from kdumpd.scan.selection import PageCounts
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.capture.machines import crashed

OPTIONS = SaveOptions(PageKind(31), Compression(CompressionKind.ZLIB, 1), jobs=1)


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crashed(tmp_path_factory.mktemp("vmcore") / "vmcore")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_dump_appears_under_its_name_only_when_it_is_complete(tmp_path: Path, vmcore: str) -> None:
    seen: list[list[str]] = []
    final = tmp_path / "dump"
    watch = Watch(progress=lambda now: seen.append(names(tmp_path)))
    with Vmcore.open(vmcore) as core:
        saved = save_dump(core, str(final), OPTIONS, watch)
    assert seen
    assert all(there == ["dump.incomplete"] for there in seen)
    assert names(tmp_path) == ["dump"]
    assert stat.S_IMODE(final.stat().st_mode) == 0o600
    assert final.stat().st_size == saved.report.size


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path, vmcore: str) -> None:
    final = tmp_path / "dump"
    for name in ("dump", "dump.incomplete"):
        (tmp_path / name).write_text("mine")
        with Vmcore.open(vmcore) as core, pytest.raises(DumpError, match=f"{name}: exists; remove it"):
            save_dump(core, str(final), OPTIONS)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_a_file_that_comes_while_the_dump_is_written_is_not_replaced(tmp_path: Path, vmcore: str) -> None:
    final = tmp_path / "dump"

    def intrude(chosen: Chosen) -> None:
        final.write_text("mine")

    watch = Watch(scanned=intrude)
    with Vmcore.open(vmcore) as core, pytest.raises(DumpError, match=r"stays at .*dump\.incomplete: File exists"):
        save_dump(core, str(final), OPTIONS, watch)
    assert final.read_text() == "mine"


def test_room_that_must_stay_free_is_asked_for_before_and_while_writing(tmp_path: Path, vmcore: str) -> None:
    options = OPTIONS._replace(min_free=1 << 60)
    with Vmcore.open(vmcore) as core, pytest.raises(DumpError, match=r"retention\.min_free keeps"):
        save_dump(core, str(tmp_path / "dump"), options)
    assert names(tmp_path) == []


def test_an_unfiltered_dump_is_begun_only_if_all_of_memory_fits(tmp_path: Path, vmcore: str) -> None:
    with Vmcore.open(vmcore) as core:
        require_room_unfiltered(core, str(tmp_path / "dump"), 0)
        with pytest.raises(DumpError, match=r"an unfiltered dump needs up to 25. MiB and 0 MiB may be used"):
            require_room_unfiltered(core, str(tmp_path / "dump"), 1 << 60)


def test_an_unfiltered_dump_keeps_every_page(tmp_path: Path, vmcore: str) -> None:
    with Vmcore.open(vmcore) as core:
        saved = save_dump(core, str(tmp_path / "dump"), OPTIONS._replace(scan=None))
    assert saved.report.pages == saved.report.counts.total
    with Dump.open(str(tmp_path / "dump")) as dump:
        assert dump.sub_header.dump_level == 0


def test_a_dump_whose_size_changed_is_not_good(tmp_path: Path, vmcore: str) -> None:
    final = str(tmp_path / "dump")
    with Vmcore.open(vmcore) as core:
        saved = save_dump(core, final, OPTIONS)
    check(final, saved.report)
    os.truncate(final, saved.report.size - 1)
    with pytest.raises(DumpError, match="look at that file system"):
        check(final, saved.report)


@pytest.mark.parametrize(
    ("free", "meaning"),
    [(2048, ""), (2030, ""), (1100, ""), (3000, ""), (1000, "larger than it need be"), (3100, "pages may be missing")],
)
def test_free_pages_that_differ_by_more_than_processors_hold_back_are_said(
    vmcore: str, free: int, meaning: str
) -> None:
    with Vmcore.open(vmcore) as core:
        found = compare_free_pages(core, PageCounts(65000, 60000, free=free), OPTIONS)
    assert (found.scanned, found.kernel) == (free, 2048)
    assert meaning in found.meaning
    assert bool(found.meaning) == bool(meaning)


def test_free_pages_are_not_compared_where_none_are_left_out(vmcore: str) -> None:
    with Vmcore.open(vmcore) as core:
        found = compare_free_pages(core, PageCounts(65000, 60000), OPTIONS._replace(level=PageKind(15)))
    assert found == FreePages(0, None, "")


def test_free_pages_that_cannot_be_compared_cost_nothing(tmp_path: Path) -> None:
    vmcore = crashed(tmp_path / "vmcore", info={"NUMBER(NR_FREE_PAGES)": "many"})
    with Vmcore.open(vmcore) as core:
        saved = save_dump(core, str(tmp_path / "dump"), OPTIONS)
    assert (saved.free_pages.scanned, saved.free_pages.kernel) == (2048, None)
    assert "cannot be compared" in saved.free_pages.meaning
    assert names(tmp_path) == ["dump", "vmcore"]


def test_a_directory_that_cannot_be_synced_is_a_warning_for_a_dump_that_has_its_name(tmp_path: Path) -> None:
    (warning,) = named_on_disk(str(tmp_path / "none" / "dump"))
    assert "its name may not be on the disk yet" in warning
    assert named_on_disk(str(tmp_path / "dump")) == ()


def test_report_names_each_leaf_of_the_scans_maps_and_of_the_one_for_the_pages(tmp_path: Path, vmcore: str) -> None:
    with Vmcore.open(vmcore) as core:
        saved = save_dump(core, str(tmp_path / "dump"), OPTIONS)
    assert as_json(saved)["scan"]["pages_map"] is None
    pages_map = PagesMap("linear", "1G", Leaves(4, 2, 1), 8192)
    scan = ScanReport(EngineChoice.KERNEL, "", "chunk", "2M", Leaves(0, 7, 0), 8192, pages_map)
    told = as_json(saved._replace(chosen=saved.chosen._replace(scan=scan)))["scan"]
    assert told["leaves"] == {"gib_1": 0, "mib_2": 7, "kib_4": 0}
    assert told["pages_map"] == {
        "strategy": "linear",
        "page_size": "1G",
        "leaves": {"gib_1": 4, "mib_2": 2, "kib_4": 1},
        "page_table_bytes": 8192,
    }


# The verb


def test_the_verb_reports_in_json(tmp_path: Path, vmcore: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", vmcore, str(tmp_path / "dump"), "--jobs", "1", "--compression", "zlib:3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["scan"]["engine"], report["source"]) == ("user", "user", "vmcore")
    assert report["pages"]["free"] == 2048
    assert report["size"] == (tmp_path / "dump").stat().st_size
    assert {"scan", "write", "sync", "all"} == set(report["seconds"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--level", "32"), "--level 32: want a number from 0 to 31"),
        (("--level", "-1"), "--level -1"),
        (("--level", "³"), "--level ³"),
        (("--compression", "lzo"), "--compression: 'lzo' is not a compression: zstd, zlib or none"),
        (("--compression", "zlib:10"), "the level of zlib is a number from 1 to 9"),
        (("--compression", "none:1"), "none takes no level"),
        (("--jobs", "0"), "--jobs 0: want auto or a number"),
    ],
)
def test_bad_options_are_usage_errors(
    tmp_path: Path, vmcore: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], message: str
) -> None:
    assert main(["dump", vmcore, str(tmp_path / "dump"), "=".join(arguments)]) == 2
    assert message in capsys.readouterr().err
    assert names(tmp_path) == []


def one_line(output: str, *parts: str) -> None:
    assert output.count("\n") == 1, output
    for part in parts:
        assert part in output


def test_output_equal_to_input_missing_directory_and_no_vmcore_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vmcore = crashed(tmp_path / "vmcore")
    before = Path(vmcore).stat().st_size
    assert main(["dump", vmcore, vmcore]) == 1
    one_line(capsys.readouterr().err, "is the vmcore itself")
    (tmp_path / "link").symlink_to(vmcore)
    assert main(["dump", vmcore, str(tmp_path / "link")]) == 1
    one_line(capsys.readouterr().err, "is the vmcore itself")
    assert Path(vmcore).stat().st_size == before
    assert main(["dump", vmcore, str(tmp_path / "no" / "dump")]) == 1
    one_line(capsys.readouterr().err, f"{tmp_path}/no: no such directory; make it first")
    assert main(["dump", str(tmp_path / "none"), str(tmp_path / "dump")]) == 1
    one_line(capsys.readouterr().err, "No such file")
    assert main(["dump", str(tmp_path), str(tmp_path / "dump")]) == 1
    one_line(capsys.readouterr().err, str(tmp_path))


def test_the_kernel_engine_scans_no_file_and_says_so_in_one_line(
    tmp_path: Path, vmcore: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", vmcore, str(tmp_path / "dump"), "--engine", "kernel"]) == 1
    one_line(capsys.readouterr().err, vmcore, "the module scans /proc/vmcore alone")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("engine", "why"), [("auto", "user: "), ("user", "user by the policy")])
def test_the_user_engine_scans_a_file_and_the_report_says_why(
    tmp_path: Path, vmcore: str, capsys: pytest.CaptureFixture[str], engine: str, why: str
) -> None:
    assert main(["dump", vmcore, str(tmp_path / "dump"), "--engine", engine, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["scan"]["why"].startswith(why)
    assert said.err == ""


def test_a_full_disk_ends_with_one_line_and_no_file(tmp_path: Path, vmcore: str) -> None:
    # A limit on file sizes fails writes as a full disk does, and needs no root.
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "from kdumpd.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    for jobs in ("1", "2"):
        command = [sys.executable, "-c", script, "dump", vmcore, str(tmp_path / "dump"), "--jobs", jobs, "--level", "0"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 1
        one_line(run.stderr, f"{tmp_path}/dump.incomplete", "File too large")
        assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_incomplete_dump(tmp_path: Path, vmcore: str, number: signal.Signals) -> None:
    script = "import sys; from kdumpd.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "dump", vmcore, str(tmp_path / "dump"), "--level", "0", "--jobs", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not names(tmp_path):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        assert process.wait() == 128 + number
    assert names(tmp_path) == []
