"""What a rehearsal shows: lines, verdict, advice, JSON, and the picture made from it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jsonschema import Draft7Validator
from rich.console import Console

from kdumpd.errors import UsageError
from kdumpd.rehearse import picture, record, report
from kdumpd.rehearse.advice import advice
from kdumpd.rehearse.timeline import Event, Phase
from tests.unit.rehearse.rehearsal import outcome, saved_dump

SCHEMA = Path(__file__).parents[3] / "config/json/rehearse.schema.json"


def plain() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=100), text


def test_a_line_has_both_clocks_and_the_memory_left() -> None:
    line = report.line(Event(50.04, Phase.CAPTURE, "dump", "saved", 12.76, 19)).plain
    assert line == "  50.0 s +12.76 s    19 M  dump: saved"


def test_a_pipe_gets_plain_lines_as_they_happen() -> None:
    console, text = plain()
    teller = report.Teller(console)
    teller.tell(Event(1.0, Phase.BOOT, "kernel", "Linux 6.1"))
    assert text.getvalue().splitlines()[-1].endswith("kernel: Linux 6.1")
    teller.close()
    assert "\x1b" not in text.getvalue()


def test_a_verified_rehearsal_says_so_and_what_it_did_not_prove(tmp_path: Path) -> None:
    console, text = plain()
    saved = saved_dump(tmp_path / "d")
    saved.record["notes"] = ["drivers: kdumpd_scan not loaded"]
    report.verdict(console, outcome(saved))
    shown = text.getvalue()
    assert "pages chosen by the kernel engine, linear 1G" in shown
    assert "  note  drivers: kdumpd_scan not loaded" in shown
    assert "VERIFIED: 6.1.0-56-amd64 crashed by sysrq" in shown
    assert "not proved by a VM: that the capture kernel drives this host's disk controller" in shown
    assert "firmware" in shown
    assert "BAD" not in shown


def test_a_failed_one_shows_the_stage_the_consoles_end_and_what_to_try() -> None:
    console, text = plain()
    report.verdict(console, outcome(None, stage="capture (dump: begins)", failure="the console fell silent"))
    shown = text.getvalue()
    assert "NOT VERIFIED: the console fell silent" in shown
    assert shown.count("  | line ") == report.CONSOLE_LINES
    assert "stage: capture (dump: begins)" in shown
    assert "try: " in shown


@pytest.mark.parametrize(
    ("console", "word"),
    [("init invoked oom-killer: gfp_mask=", "--crashkernel 256M"), ("UUID=x: no such block device", "driver")],
)
def test_advice_follows_the_consoles_words(console: str, word: str) -> None:
    assert word in advice(outcome(None, console=(console,)))[0]


@pytest.mark.parametrize("phase", list(Phase))
def test_there_is_advice_for_every_stage(phase: Phase) -> None:
    assert advice(outcome(None, events=(Event(1.0, phase, "x", "y"),)))


def test_the_json_report_is_whole_and_stable(tmp_path: Path) -> None:
    document = json.loads(json.dumps(report.document(outcome(saved_dump(tmp_path / "d")))))
    assert document["verified"] is True
    assert document["version"] == 1
    assert {"kernel", "panic", "image", "checks", "events", "not_proved", "dump", "capture", "seconds"} <= set(document)
    assert document["console_tail"] == []
    failed = report.document(outcome(None))
    assert failed["verified"] is False
    assert len(failed["console_tail"]) == report.CONSOLE_LINES


def test_the_json_report_is_what_its_schema_says(tmp_path: Path) -> None:
    schema = Draft7Validator(json.loads(SCHEMA.read_text()))
    for one in (outcome(saved_dump(tmp_path / "d")), outcome(None)):
        schema.validate(json.loads(json.dumps(report.document(one))))


def test_an_armed_image_is_named_with_its_hash_and_kept_on_record(tmp_path: Path) -> None:
    made = outcome(saved_dump(tmp_path / "d"))
    armed = replace(made, scenario=replace(made.scenario, armed=True), image=made.image._replace(sha256="ab" * 32))
    assert "boot of the armed image (sha256 abababababab)" in " ".join(report.summary(armed))
    path = record.write(tmp_path, armed, 1700000000.5)
    assert json.loads(path.read_text()) == {
        "version": 1,
        "time": 1700000000,
        "release": "6.1.0-56-amd64",
        "image_sha256": "ab" * 32,
        "verified": True,
        "panic": "sysrq",
        "seconds": 53.9,
        "stage": "the machine ends",
        "why": "",
    }
    failed = replace(outcome(None), failure="the console fell silent")
    record.write(tmp_path, failed, 1700000001.0)
    kept = json.loads(path.read_text())
    assert (kept["verified"], kept["why"]) == (False, "the console fell silent")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_picture_shows_a_reports_timeline_and_verdict(tmp_path: Path) -> None:
    source = tmp_path / "report.json"
    source.write_text(json.dumps(report.document(outcome(saved_dump(tmp_path / "d")))))
    assert picture.main([str(tmp_path / "out.svg"), str(source)]) == 0
    text = "".join(ElementTree.parse(tmp_path / "out.svg").getroot().itertext()).replace("\xa0", " ")
    assert "saved: 39976 pages" in text
    assert "VERIFIED" in text


def test_the_picture_wants_to_know_where_to() -> None:
    with pytest.raises(UsageError):
        picture.main([])
