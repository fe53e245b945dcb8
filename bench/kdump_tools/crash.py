"""Runs in the peer's first kernel, as a systemd service: fills memory as a rehearsal does, and crashes by sysrq.

Put on the disk by `bench.kdump_tools.capture`, beside the workload and the file that the page cache is to hold.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from kdumpd.rehearse.workload import Workload, amounts

NONCE = "bench"
CACHE_DIRECTORY = "/var/tmp"
_MEMORY = "bench.workload="  # bytes, on the kernel's command line


def main() -> None:
    """Does not come back: the machine crashes."""
    words = Path("/proc/cmdline").read_text().split()
    memory = next(word for word in words if word.startswith(_MEMORY)).removeprefix(_MEMORY)
    load = Path("/run/bench")
    load.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%", "tmpfs", str(load)], check=True)
    workload = Workload(NONCE, CACHE_DIRECTORY, str(load))
    for kind, pages in amounts(int(memory)).items():
        workload.allocate(kind, pages)
    os.sync()
    time.sleep(1)
    Path("/proc/sysrq-trigger").write_text("c")


if __name__ == "__main__":
    main()
