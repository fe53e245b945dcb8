"""VMCOREINFO: typed look-ups, and what is no number is named."""

from __future__ import annotations

import pytest

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_TEXT = b"""OSRELEASE=6.12.117+deb13-amd64
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffffa43fb000
NUMBER(phys_base)=-293601280
NUMBER(kimage_voffset)=0xffff7fffc0000000
OFFSET(page.flags)=0
SIZE(page)=64
LENGTH(zone.free_area)=11
CONFIG_PRINTK_CALLER=y
KERNELOFFSET=21800000
CRASHTIME=1795505269
SIZE(zone)=many
"""


def test_values_are_typed_by_their_kind() -> None:
    info = VmcoreInfo(_TEXT)
    assert info.release == "6.12.117+deb13-amd64"
    assert info.version == (6, 12)
    assert info.page_size == 4096
    assert info.symbol("init_uts_ns") == 0xFFFFFFFFA43FB000
    assert info.number("phys_base") == -293601280
    assert info.number("kimage_voffset") == 0xFFFF7FFFC0000000
    assert info.offset("page.flags") == 0
    assert info.size("page") == 64
    assert info.length("zone.free_area") == 11
    assert info.config("PRINTK_CALLER") == "y"
    assert info.kernel_offset == 0x21800000
    assert info.crash_time == 1795505269
    assert info.value("OSRELEASE") == "6.12.117+deb13-amd64"


def test_what_is_absent_is_none() -> None:
    info = VmcoreInfo(_TEXT)
    assert info.symbol("mem_map") is info.number("x") is info.offset("x") is info.size("x") is info.length("x") is None
    assert info.config("X") is info.value("X") is None


def test_what_is_needed_and_absent_is_named() -> None:
    with pytest.raises(VmcoreError, match=r"vmcore: VMCOREINFO of 6\.12\.117\S+ has no SYMBOL\(prb\)"):
        info = VmcoreInfo(_TEXT, "vmcore")
        info.need(info.symbol("prb"), "SYMBOL(prb)")


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(VmcoreError, match=r"SIZE\(zone\)=many"):
        VmcoreInfo(_TEXT).size("zone")


@pytest.mark.parametrize("number", [b"18446744073709551616", b"-9223372036854775809", b"0x10000000000000000"])
def test_a_number_of_more_than_64_bits_is_named(number: bytes) -> None:
    with pytest.raises(VmcoreError, match="which is no number"):
        VmcoreInfo(b"PAGESIZE=4096\nNUMBER(phys_base)=" + number).number("phys_base")


@pytest.mark.parametrize("time", [b"-5", b"9" * 20, b"4294967296", b"soon", b"", b"0x10", "٣".encode()])
def test_a_crash_time_that_is_no_time_is_unknown(time: bytes) -> None:
    assert VmcoreInfo(b"PAGESIZE=4096\nCRASHTIME=" + time).crash_time is None


@pytest.mark.parametrize("size", [b"", b"PAGESIZE=0\n", b"PAGESIZE=4095\n", b"PAGESIZE=-4096\n", b"PAGESIZE=\xff\n"])
def test_an_absurd_page_size_is_refused(size: bytes) -> None:
    with pytest.raises(VmcoreError, match="PAGESIZE"):
        VmcoreInfo(size)


def test_a_number_of_a_million_digits_is_refused_at_once() -> None:
    with pytest.raises(VmcoreError, match="which is no number"):
        VmcoreInfo(b"PAGESIZE=4096\nSIZE(page)=" + b"9" * 1000000).size("page")


def test_more_than_a_mebibyte_is_refused() -> None:
    with pytest.raises(VmcoreError, match="damaged notes"):
        VmcoreInfo(b"PAGESIZE=4096\n" + bytes(2 << 20))


@pytest.mark.parametrize("release", ["", "linux", "6", "6.x", "x.1"])
def test_a_release_without_a_version_has_none(release: str) -> None:
    assert VmcoreInfo(f"PAGESIZE=4096\nOSRELEASE={release}\n".encode()).version == (0, 0)
