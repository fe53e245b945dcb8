"""`kdumpd verify`: read a dump whole, say what is wrong with it, and exit 0 only when it is good."""

from __future__ import annotations

import argparse
import json

from kdumpd.cli.bar import bar
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import Verification, verify
from kdumpd.errors import DumpError


def run(options: argparse.Namespace) -> int:
    """Print the verdict; 0 where the dump is complete and every page can be read, 1 otherwise."""
    with Dump.open(options.dump) as dump, bar(f"verify {options.dump}") as report:
        result = verify(dump, report)
    if options.json:
        print(json.dumps(result._asdict(), indent=2))
        return 0 if result.verdict == "good" else 1
    if result.verdict == "good":
        unchecked = f"; {result.unchecked:,} raw pages have no checksum" if result.unchecked else ""
        print(f"{result.file}: good: {_pages(result)}; checksum: {result.checksum}{unchecked}")
        return 0
    if result.verdict == "incomplete":
        raise DumpError(f"{result.file}: incomplete, as its header says: {_pages(result)}; what is written can be read")
    if result.verdict == "unchecked":
        raise DumpError(
            f"{result.file}: cannot be checked: {result.unreadable:,} pages are compressed by LZO or snappy, which "
            "kdumpd cannot read; use crash or drgn"
        )
    others = f" (and {result.problem_count - 1} more, see --json)" if result.problem_count > 1 else ""
    raise DumpError(f"{result.file}: damaged: {result.problems[0]}{others}")


def _pages(result: Verification) -> str:
    kinds = ("zero", "zstd", "zlib", "raw", "unwritten", "unreadable")
    parts = [f"{getattr(result, kind):,} {kind}" for kind in kinds if getattr(result, kind)]
    return f"{result.pages:,} pages ({', '.join(parts) or 'none'}) of {result.memory_pages:,} in {result.size:,} bytes"
