"""`kdumpd dmesg`: the crashed kernel's log, from an ELF vmcore or from a dump."""

from __future__ import annotations

import argparse
import sys

from kdumpd.vmcore.vmcore import Vmcore


def run(options: argparse.Namespace) -> int:
    """Print the log to standard output, byte for byte as `makedumpfile --dump-dmesg` writes it."""
    with Vmcore.open(options.file) as core:
        for line in core.dmesg():
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return 0
