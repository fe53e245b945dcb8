"""Whether a kernel really boots under KVM here: /dev/kvm may exist, run a boot sector, and still hang a kernel.

Called by `vm`; imports packages (for the cache's place).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from kdumpd.rehearse.packages import CACHE

# A kernel under KVM says its first word in under a second and has nothing to run after three.
FIRST_WORD_SECONDS = 5
WHOLE_BOOT_SECONDS = 20
FIRST_WORD = b"Linux version"
LAST_WORD = b"Kernel panic"  # it was given no root file system


def kvm_works(program: str, vmlinuz: Path, cache: Path = CACHE) -> bool:
    """True when this kernel booted under KVM within seconds; tried once a boot of this machine, the answer is kept."""
    if not program.endswith(f"-{os.uname().machine}") or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kept = cache / "kvm"
    if kept.is_file():
        kept_boot, _, answer = kept.read_text().strip().partition(" ")
        if kept_boot == boot:
            return answer == "works"
    works = _kernel_boots(program, vmlinuz)
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(f"{boot} {'works' if works else 'hangs'}\n")
    return works


def _kernel_boots(program: str, vmlinuz: Path) -> bool:
    command = [program, "-accel", "kvm", "-cpu", "host", "-m", "256M", "-nodefaults", "-no-user-config"]
    command += ["-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(vmlinuz)]
    command += ["-append", "console=ttyS0 earlyprintk=serial panic=-1"]
    with tempfile.TemporaryFile() as console:
        try:
            guest = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            return False
        try:
            return _says(guest, console.fileno(), FIRST_WORD, FIRST_WORD_SECONDS) and _says(
                guest, console.fileno(), LAST_WORD, WHOLE_BOOT_SECONDS
            )
        finally:
            guest.kill()
            guest.wait()


def _says(guest: subprocess.Popen[bytes], console: int, word: bytes, within: float) -> bool:
    deadline = time.monotonic() + within
    while True:
        ended = guest.poll() is not None
        if word in os.pread(console, 1 << 20, 0):
            return True
        if ended or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
