"""The judgement from outside: a good dump passes, and each thing that can be wrong with one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.dumpfile.format import Flags
from kdumpd.dumpfile.reader import Dump
from kdumpd.policy.model import PageKind
from kdumpd.rehearse.judge import CAUSES, Evidence, judge, near
from kdumpd.rehearse.scenario import Panic
from tests.unit.rehearse.rehearsal import ANONYMOUS, LOG, NONCE, PIPE, SLAB, evidence, saved_dump


def bad(of: Evidence) -> set[str]:
    return {check.name for check in judge(of) if not check.good}


def test_a_dump_that_holds_what_it_should_is_good(tmp_path: Path) -> None:
    checks = judge(evidence(saved_dump(tmp_path / "d")))
    assert {check.name for check in checks} == {
        "verify",
        "nonce in dmesg.txt",
        "panic message",
        "incidents",
        "scan",
        "memory count",
        "user count",
        "cache count",
        "free count",
        "nonce in the dump's log",
        "nonce page",
        "anonymous pages",
        "slab pages",
    }
    assert all(check.good for check in checks)


def test_user_pages_that_were_kept_are_found(tmp_path: Path) -> None:
    assert bad(evidence(saved_dump(tmp_path / "d", left_out=()))) == {"anonymous pages"}


def test_user_pages_that_should_be_kept_and_are_not_are_missed(tmp_path: Path) -> None:
    kept = evidence(saved_dump(tmp_path / "d"))._replace(level=PageKind.ZERO)
    assert bad(kept) == {"anonymous pages"}


def test_slab_that_is_gone_is_missed(tmp_path: Path) -> None:
    assert bad(evidence(saved_dump(tmp_path / "d", left_out=(ANONYMOUS, SLAB)))) == {"slab pages"}


def test_a_lost_nonce_page_is_missed(tmp_path: Path) -> None:
    pipe = range(PIPE, PIPE + 1)
    assert bad(evidence(saved_dump(tmp_path / "d", left_out=(ANONYMOUS, pipe)))) == {"nonce page"}


def test_the_log_of_another_crash_is_noticed(tmp_path: Path) -> None:
    other = evidence(saved_dump(tmp_path / "d", log=LOG.replace(NONCE, "other")))
    assert bad(other) == {"nonce in dmesg.txt", "nonce in the dump's log"}


def test_a_panic_of_another_kind_is_noticed(tmp_path: Path) -> None:
    assert bad(evidence(saved_dump(tmp_path / "d"))._replace(panic=Panic.NMI)) == {"panic message"}


@pytest.mark.parametrize("kind", ["user", "cache", "free", "total"])
def test_counts_three_percent_apart_are_not_good(tmp_path: Path, kind: str) -> None:
    saved = saved_dump(tmp_path / "d")
    pages = saved.record["dump"]["pages"]
    pages[kind] = int(pages[kind] * 1.03) + 600
    assert len(bad(evidence(saved))) == 1


def test_a_damaged_page_fails_verification(tmp_path: Path) -> None:
    saved = saved_dump(tmp_path / "d")
    assert saved.dump is not None
    with Dump.open(str(saved.dump)) as dump:
        offset = next(page.offset for _, page in dump.pages() if page.flags & Flags.ZSTD)
    data = bytearray(saved.dump.read_bytes())
    data[offset : offset + 8] = bytes(8)
    saved.dump.write_bytes(data)
    assert "verify" in bad(evidence(saved))


def test_a_cut_dump_is_one_failed_check_among_the_others(tmp_path: Path) -> None:
    saved = saved_dump(tmp_path / "d")
    assert saved.dump is not None
    saved.dump.write_bytes(saved.dump.read_bytes()[:5000])
    assert bad(evidence(saved)) == {"verify"}


def test_an_incident_that_the_runner_went_on_from_is_not_good(tmp_path: Path) -> None:
    saved = saved_dump(tmp_path / "d")
    saved.record["incidents"] = ["image: the image is not whole"]
    assert bad(evidence(saved)) == {"incidents"}


@pytest.mark.parametrize(
    ("wanted", "engine", "good"),
    [("auto", "kernel", True), ("auto", "user", True), ("user", "user", True), ("kernel", "user", False)],
)
def test_another_engine_than_the_policy_names_is_not_good(tmp_path: Path, wanted: str, engine: str, good: bool) -> None:
    saved = saved_dump(tmp_path / "d")
    saved.record["policy"]["scan"]["engine"] = wanted
    saved.record["scan"]["engine"] = engine
    assert bad(evidence(saved)) == (set() if good else {"scan"})


def test_the_check_of_the_scan_names_engine_mapping_price_and_reason(tmp_path: Path) -> None:
    (check,) = [check for check in judge(evidence(saved_dump(tmp_path / "d"))) if check.name == "scan"]
    assert check.found == "kernel engine, linear 1G, 32 KiB of page tables, 1.5 ns a page: linear: few runs"


def test_no_dump_is_one_failed_check() -> None:
    assert bad(evidence(None)) == {"dump"}


def test_a_record_without_counts_is_not_good(tmp_path: Path) -> None:
    saved = saved_dump(tmp_path / "d")._replace(record={})
    assert bad(evidence(saved)) == {"counts"}


def test_two_percent_is_the_limit_and_small_counts_have_slack() -> None:
    assert near(100_000, 102_000)
    assert not near(100_000, 102_001)
    assert near(10, 500)


def test_every_way_to_crash_has_its_words() -> None:
    assert set(CAUSES) == set(Panic)


def test_what_was_loaded_begins_with_the_image_byte_for_byte(tmp_path: Path) -> None:
    made = evidence(saved_dump(tmp_path / "d"))._replace(image_sha256="ab" * 32)
    loaded = made.guest._replace(image_sha256="ab" * 32)
    assert bad(made._replace(guest=loaded)) == set()
    assert bad(made) == {"image"}
