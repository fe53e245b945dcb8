"""The cpio archive: what GNU cpio reads, what the kernel would, and equal bytes for equal files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdumpd.errors import ImageError
from kdumpd.image import archive

FILES = [archive.file("etc/a", b"one"), archive.link("init", "usr/x"), archive.device("dev/console", 5, 1)]


def test_what_is_packed_is_unpacked_with_the_folders_it_needs() -> None:
    entries = list(archive.unpack(archive.pack(FILES), "t"))
    assert [entry.name for entry in entries] == ["dev", "dev/console", "etc", "etc/a", "init"]
    assert {entry for entry in entries if entry.name in {"etc/a", "init", "dev/console"}} == set(FILES)


def test_the_order_of_entries_does_not_change_the_bytes() -> None:
    assert archive.pack(FILES) == archive.pack(reversed(FILES))


@given(st.lists(st.tuples(st.text("abc/", min_size=1, max_size=5), st.binary(max_size=40)), max_size=6))
def test_any_files_survive(files: list[tuple[str, bytes]]) -> None:
    entries = {name: archive.file(name, data) for name, data in files if name.strip("/") == name and "//" not in name}
    paths = {name for name in entries if not any(other.startswith(f"{name}/") for other in entries)}
    found = {entry.name: entry for entry in archive.unpack(archive.pack(entries[name] for name in paths), "t")}
    assert {name: found[name].data for name in paths} == {name: entries[name].data for name in paths}


def test_gnu_cpio_reads_it(tmp_path: Path) -> None:
    cpio = shutil.which("cpio")
    assert cpio, "apt-get install cpio"
    subprocess.run([cpio, "-idm", "--quiet"], cwd=tmp_path, input=archive.pack(FILES[:2]), check=True)
    assert (tmp_path / "etc/a").read_bytes() == b"one"
    assert (tmp_path / "init").readlink() == Path("usr/x")


def test_hard_links_that_cpio_writes_once_are_whole_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"shared")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    made = subprocess.run(
        ["cpio", "-oH", "newc", "--quiet"], cwd=tmp_path, input=b"a\nb\n", check=True, capture_output=True
    )
    assert {entry.name: entry.data for entry in archive.unpack(made.stdout, "t")} == {"a": b"shared", "b": b"shared"}


@pytest.mark.parametrize("length", range(0, 600, 37))
def test_a_cut_archive_is_one_clear_error(length: int) -> None:
    whole = archive.pack(FILES)
    with pytest.raises(ImageError, match=r"^t: "):
        list(archive.unpack(whole[: min(length, len(whole) - 1)], "t"))
