"""The printk ring as `kdumpd dmesg` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import AARCH64, X86_64
from kdumpd.vmcore.printk import messages
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.printk import COMMITTED, RESERVED, REUSABLE, Record, put_log
from tests.builders.vmcore import VmcoreBuilder


def _log(
    tmp_path: Path,
    records: Sequence[Record],
    *,
    machine: int = X86_64,
    info: dict[str, str | None] | None = None,
    count_bits: int = 6,
    text_bits: int = 12,
    first_id: int = 0,
    first_position: int = 0,
    tight: bool = False,
) -> bytes:
    builder = VmcoreBuilder(info=info)
    put_log(
        builder,
        records,
        count_bits=count_bits,
        text_bits=text_bits,
        first_id=first_id,
        first_position=first_position,
        tight=tight,
    )
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        return b"".join(messages(core.info, core.read_virtual, machine))


def test_time_is_printed_in_microseconds(tmp_path: Path) -> None:
    records = [Record(b"first", 1_234_567_890), Record(b"later", 123456_000_001_999)]
    assert _log(tmp_path, records) == b"[    1.234567] first\n[123456.000001] later\n"


def test_records_that_claim_more_text_than_the_ring_has_end_the_log(tmp_path: Path) -> None:
    records = [Record(b"x" * 500, begin=0, end=512)] * 64
    with pytest.raises(VmcoreError, match="more text than its 4096 bytes: damaged"):
        _log(tmp_path, records)


def test_a_ring_of_more_records_than_bytes_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VmcoreError, match=r"has 2\^13 records and 2\^12 bytes of text: damaged"):
        _log(tmp_path, [Record(b"text")], count_bits=13)


def test_lines_of_a_record_are_aligned_behind_its_time(tmp_path: Path) -> None:
    assert _log(tmp_path, [Record(b"one\ntwo\n")]) == b"[    0.000000] one\n               two\n               \n"


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    assert _log(tmp_path, [Record(b"a\x1b[1m\tb\\\x7f")]) == b"[    0.000000] a\\x1b[1m\tb\\\\x7f\n"


def test_bytes_above_ascii_are_printed_as_makedumpfile_of_that_machine_does(tmp_path: Path) -> None:
    record = [Record("é".encode())]
    assert _log(tmp_path, record) == b"[    0.000000] \\xffffffc3\\xffffffa9\n"
    assert _log(tmp_path, record, machine=AARCH64) == b"[    0.000000] \\xc3\\xa9\n"


def test_caller_is_printed_where_the_kernel_notes_it(tmp_path: Path) -> None:
    records = [Record(b"by a thread", caller=17), Record(b"by a processor", caller=0x80000003)]
    log = _log(tmp_path, records, info={"OFFSET(printk_info.caller_id)": "20"})
    assert log == b"[    0.000000] [     T17] by a thread\n[    0.000000] [      C3] by a processor\n"


def test_records_not_committed_and_records_without_text_are_left_out(tmp_path: Path) -> None:
    records = [
        Record(b"being written", state=RESERVED),
        Record(b"committed", state=COMMITTED),
        Record(b"overwritten", state=REUSABLE),
        Record(b""),
        Record(b"last"),
    ]
    assert _log(tmp_path, records) == b"[    0.000000] committed\n[    0.000000] last\n"


def test_ids_wrap_around_the_descriptor_ring(tmp_path: Path) -> None:
    records = [Record(b"%d" % number) for number in range(8)]
    log = _log(tmp_path, records, count_bits=3, first_id=(1 << 40) + 5)
    assert log.split() == [word for number in range(8) for word in (b"[", b"0.000000]", b"%d" % number)]


def test_block_that_does_not_fit_before_the_end_of_the_ring_is_read_from_its_start(tmp_path: Path) -> None:
    records = [Record(b"x" * 100), Record(b"wrapped" * 10)]
    log = _log(tmp_path, records, text_bits=8, first_position=3 * 256 + 80)
    assert log.endswith(b"] " + b"wrapped" * 10 + b"\n")


def test_block_that_ends_where_the_ring_ends_is_read_there(tmp_path: Path) -> None:
    log = _log(tmp_path, [Record(b"y" * 56)], text_bits=8, first_position=192, tight=True)
    assert log == b"[    0.000000] " + b"y" * 56 + b"\n"


def test_length_longer_than_the_block_is_cut_to_the_block(tmp_path: Path) -> None:
    assert _log(tmp_path, [Record(b"12345678", text_length=60000), Record(b"next")]) == (
        b"[    0.000000] 12345678\n[    0.000000] next\n"
    )


def test_a_long_log_is_read_through_its_windows(tmp_path: Path) -> None:
    records = [Record(b"record %05d " % number + b"." * (number % 200), number * 1000) for number in range(4000)]
    log = _log(tmp_path, records, count_bits=12, text_bits=20)
    assert log == b"".join(b"[    0.%06d] %s\n" % (record.nanoseconds // 1000, record.text) for record in records)


def test_tail_far_behind_head_prints_no_more_than_the_ring_holds(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    put_log(builder, [Record(b"only")])
    ring = 0x221000
    builder.write(ring + 32, (12345 << 40).to_bytes(8, "little"))  # tail_id
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert list(core.dmesg()) == [b"[    0.000000] only\n"]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"OFFSET(prb_desc.state_var)": None}, "OFFSET(prb_desc.state_var)"),
        ({"SIZE(prb_desc)": "0"}, "SIZE(prb_desc)=0"),
        ({"SIZE(printk_info)": "18"}, "SIZE(printk_info)=18"),
        ({"OFFSET(printk_info.ts_nsec)": "-8"}, "OFFSET(printk_info.ts_nsec)=-8"),
        ({"SIZE(printk_ringbuffer)": "999999999999"}, "SIZE(printk_ringbuffer)"),
        ({"OFFSET(printk_info.caller_id)": "-4"}, "damaged"),
        ({"OFFSET(printk_info.caller_id)": "86"}, "damaged"),
    ],
)
def test_absurd_vmcoreinfo_is_named(tmp_path: Path, info: dict[str, str | None], message: str) -> None:
    with pytest.raises(VmcoreError) as caught:
        _log(tmp_path, [Record(b"text")], info=info)
    assert message in str(caught.value)


def test_ring_of_absurd_size_is_refused(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    put_log(builder, [Record(b"text")])
    builder.write(0x221000, b"\xff\xff\xff\xff")
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core, pytest.raises(VmcoreError, match="records"):
        list(core.dmesg())


def test_kernel_without_the_descriptor_ring_is_refused(tmp_path: Path) -> None:
    with (
        Vmcore.open(VmcoreBuilder().save(tmp_path / "vmcore")) as core,
        pytest.raises(VmcoreError, match=r"no SYMBOL\(prb\)"),
    ):
        list(core.dmesg())


def test_the_log_needs_nothing_of_mem_map(tmp_path: Path) -> None:
    builder = VmcoreBuilder(info={"SYMBOL(mem_section)": None, "SIZE(page)": None})
    put_log(builder, [Record(b"still there")])
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert list(core.dmesg()) == [b"[    0.000000] still there\n"]


def test_the_log_is_read_by_the_program_headers_when_the_page_tables_are_gone(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    put_log(builder, [Record(b"still there")])
    builder.write(0x300000, bytes(4096))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert list(core.dmesg()) == [b"[    0.000000] still there\n"]
