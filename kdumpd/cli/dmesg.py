"""`kdumpd dmesg`: the crashed kernel's log, from an ELF vmcore or from a dump."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kdumpd.dumpfile.format import SIGNATURE
from kdumpd.dumpfile.reader import Dump
from kdumpd.vmcore.vmcore import Vmcore


def run(options: argparse.Namespace) -> int:
    """Print the log to standard output, byte for byte as `makedumpfile --dump-dmesg` (1.7.5 and newer) writes it."""
    with Path(options.file).open("rb") as file:
        is_dump = file.read(len(SIGNATURE)) == SIGNATURE
    with Dump.open(options.file) if is_dump else Vmcore.open(options.file) as source:
        for record in source.dmesg():
            sys.stdout.buffer.write(record)
    sys.stdout.buffer.flush()
    return 0
