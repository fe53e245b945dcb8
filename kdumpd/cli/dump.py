"""`kdumpd dump`: a dump written from any ELF vmcore, by the same steps as the capture runner's."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from kdumpd.capture.save import Saved, SaveOptions, as_json, save_dump
from kdumpd.errors import UsageError
from kdumpd.policy.model import Compression, EngineChoice, PageKind
from kdumpd.policy.units import parse_compression
from kdumpd.scan.engine import ScanOptions
from kdumpd.target.local import INCOMPLETE
from kdumpd.vmcore.vmcore import Vmcore

_MOST_LEVEL = 31
_MOST_JOBS = 256
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def run(options: argparse.Namespace) -> int:
    """Write the dump; a failure leaves nothing of it, unless the vmcore is gone after a reboot."""
    wanted = SaveOptions(
        page_kinds(options.level),
        compression(options.compression),
        jobs(options.jobs),
        scan=ScanOptions(EngineChoice(options.engine)),
    )
    temporary = Path(options.output + INCOMPLETE)
    already = temporary.exists()
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has set SIGHUP aside
            signal.signal(number, _end)
    with Vmcore.open(options.vmcore) as core:
        try:
            saved = save_dump(core, options.output, wanted)
        except BaseException:
            if not already:
                _clean(temporary, keep=Path(options.vmcore).resolve().parts[:2] == ("/", "proc"))
            raise
    print(json.dumps({"dump": options.output, **as_json(saved)}, indent=2) if options.json else _text(options, saved))
    trouble = saved.report.trouble
    for warning in (
        *saved.warnings,
        saved.free_pages.meaning,
        saved.chosen.describe() if saved.chosen.scan and saved.chosen.scan.fell_back else "",
        f"pages came from the vmcore, not from the module's map, in the end: {trouble}" if trouble else "",
    ):
        if warning:
            print(f"kdumpd dump: {warning}", file=sys.stderr)
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    """Ends as a shell expects it of a program that a signal ended, once what was begun is cleaned up."""
    sys.exit(128 + number)


def _clean(temporary: Path, keep: bool) -> None:
    if keep and temporary.exists():
        print(f"kdumpd dump: what was written stays at {temporary}", file=sys.stderr)
        return
    with contextlib.suppress(OSError):
        temporary.unlink()


def _text(options: argparse.Namespace, saved: Saved) -> str:
    report = saved.report
    writing = report.write_seconds + report.sync_seconds
    return (
        f"{options.output}: {report.pages} of {report.counts.total} pages, {report.size} bytes; "
        f"{report.select_seconds:.2f} s to choose them, {writing:.2f} s to write them"
    )


def page_kinds(text: str) -> PageKind:
    """A dump level from the command line."""
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_LEVEL):
        raise UsageError(f"--level {text}: want a number from 0 to {_MOST_LEVEL}")
    return PageKind(int(text))


def compression(text: str) -> Compression:
    """KIND or KIND:LEVEL from the command line."""
    try:
        return parse_compression(text)
    except ValueError as error:
        raise UsageError(f"--compression: {error}") from None


def jobs(text: str) -> int | None:
    """A number of worker processes from the command line, None for automatic."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_JOBS):
        raise UsageError(f"--jobs {text}: want auto or a number from 1 to {_MOST_JOBS}")
    return int(text)
