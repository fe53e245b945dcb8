"""`kdumpd dmesg`: the crashed kernel's log, from an ELF vmcore or from a dump."""

from __future__ import annotations

import argparse
import os
import sys
from stat import S_ISREG

from kdumpd.dumpfile.format import SIGNATURE
from kdumpd.dumpfile.reader import Dump
from kdumpd.vmcore.vmcore import Vmcore


def run(options: argparse.Namespace) -> int:
    """Print the log to standard output, byte for byte as `makedumpfile --dump-dmesg` (1.7.5 and newer) writes it."""
    fd = os.open(options.file, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for a writer
    try:
        is_dump = S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, len(SIGNATURE), 0) == SIGNATURE
    finally:
        os.close(fd)
    with Dump.open(options.file) if is_dump else Vmcore.open(options.file) as source:
        for record in source.dmesg():
            sys.stdout.buffer.write(record)
    sys.stdout.buffer.flush()
    return 0
