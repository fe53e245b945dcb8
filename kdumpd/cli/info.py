"""`kdumpd info`: tell what a dump holds and what the kernel died of."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from kdumpd.cli.bar import bar
from kdumpd.dumpfile.info import Information, info
from kdumpd.dumpfile.reader import Dump
from kdumpd.policy.units import shown_size


def run(options: argparse.Namespace) -> int:
    """Print what the dump tells; 0, as long as it is a dump."""
    with Dump.open(options.dump) as dump, bar(f"read {options.dump}") as report:
        result = info(dump, report)
    print(json.dumps(result._asdict(), indent=2) if options.json else "\n".join(_lines(result)))
    return 0


def _lines(result: Information) -> list[str]:
    time = "unknown" if result.crash_time is None else _time(result.crash_time)
    panic = result.panic or ("unknown" if result.log_error is None else f"unknown: {result.log_error}")
    excluded = f" (without {', '.join(result.excluded)})" if result.excluded else ""
    rows = [
        ("release", f"{result.release} {result.machine}"),
        ("host", result.nodename or "unknown"),
        ("crashed", time),
        ("panic", panic),
        ("dump", f"{'complete' if result.complete else 'INCOMPLETE'}, {shown_size(result.size)}, {result.compression}"),
        ("level", f"{result.level}{excluded}"),
        (
            "memory",
            f"{shown_size(result.memory_size)}, {result.processors} processors, pages of {result.page_size} bytes",
        ),
    ]
    rows += [(f"  {kind.replace('_', ' ')}", f"{number:,} pages") for kind, number in result.pages.items()]
    rows.append(("written by", result.written_by or "another program"))
    return [f"{name:<16}{text}" for name, text in rows]


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds since 1970"
