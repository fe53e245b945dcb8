"""Which mirror the private apt uses, and which version of a package is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.rehearse.packages import (
    Source,
    deb822_sources,
    debian_mirrors,
    fits,
    machine_sources,
    new_folder,
    one_line_sources,
    render_sources,
)

DEB822 = """\
# written by an installer
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://docker.example/linux/debian bookworm stable
deb http://mirror.example/debian trixie main non-free-firmware  # the mirror
deb-src http://mirror.example/debian trixie main
deb http://security.example/debian-security trixie-security main
"""


def test_deb822_stanzas_give_one_source_for_each_suite_and_leave_out_what_is_disabled() -> None:
    sources = tuple(deb822_sources(DEB822))
    assert [(source.uri, source.suite) for source in sources] == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://mirror.example/debian-security", "bookworm-security"),
    ]
    assert sources[0].signed_by == "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_a_key_block_inside_a_stanza_is_rendered_as_it_was() -> None:
    debian, security = debian_mirrors(tuple(deb822_sources(DEB822)))
    again = [
        source for source in deb822_sources(render_sources(debian, security)) if source.suite == "bookworm-security"
    ]
    assert again[0].signed_by.splitlines()[1:] == [" -----BEGIN PGP PUBLIC KEY BLOCK-----", " .", " mQINBF"]


def test_one_line_sources_are_read_with_their_options_and_without_comments() -> None:
    sources = tuple(one_line_sources(ONE_LINE))
    assert sources[0] == Source("https://docker.example/linux/debian", "bookworm", ("stable",), "/k.gpg")
    assert sources[1].components == ("main", "non-free-firmware")
    assert len(sources) == 3


def test_the_mirror_is_debians_not_that_of_a_repository_that_borrows_its_code_names() -> None:
    debian, security = debian_mirrors(tuple(one_line_sources(ONE_LINE)))
    assert debian.uri == "http://mirror.example/debian"
    assert security is not None
    assert security.uri == "http://security.example/debian-security"


def test_the_mirror_that_has_updates_too_goes_before_one_that_does_not() -> None:
    sources = tuple(one_line_sources("deb http://other.example/x bookworm main\n")) + tuple(deb822_sources(DEB822))
    assert debian_mirrors(sources)[0].uri == "http://mirror.example/debian"


def test_a_machine_without_a_debian_mirror_is_told_so() -> None:
    with pytest.raises(HostError, match="no source of Debian's `main`"):
        debian_mirrors(tuple(one_line_sources("deb https://docker.example/linux/debian bookworm stable\n")))


def test_both_kinds_of_sources_are_collected_from_apts_folder(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/debian.sources.save").write_text(DEB822)
    assert len(machine_sources(tmp_path)) == 6


def test_a_machine_without_any_sources_has_none(tmp_path: Path) -> None:
    assert machine_sources(tmp_path) == ()


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("6.1.192-2", "6.1", True),
        ("6.12.117-1", "6.1", False),
        ("6.12.117-1", "6.12.117-1", True),
        ("6.12.95-1~bpo12+1", "6.12.95-1", True),
        ("7.2.13-1", "", True),
        ("7.2.13-1", "7.2.1", False),
    ],
)
def test_a_version_fits_what_it_is_or_continues_after_a_separator(version: str, wanted: str, expected: bool) -> None:
    assert fits(version, wanted) is expected


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "kernel") as made:
        (made / "vmlinuz").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "kernel") as made:
        (made / "vmlinuz").write_text("whole")
    assert (tmp_path / "kernel/vmlinuz").read_text() == "whole"


def test_of_two_that_make_the_same_folder_the_first_wins_and_both_go_on(tmp_path: Path) -> None:
    with new_folder(tmp_path / "kernel") as slow:
        with new_folder(tmp_path / "kernel") as fast:
            (fast / "vmlinuz").write_text("fast")
        (slow / "vmlinuz").write_text("slow")
    assert (tmp_path / "kernel/vmlinuz").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["kernel"]
