"""Debian 12 with its stock kdump-tools as a disk image, made once and kept in `~/.cache/kdumpd/kdump-tools`.

debootstrap and apt install what they install by default, recommended packages too, from the mirror that this machine's
apt uses; then it is booted once in a virtual
machine, where kdump-tools makes its initramfs as on any first boot (MODULES=dep, for the disk it finds). Needs root.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.rehearse.kernels import Kernel, installed
from kdumpd.rehearse.packages import CACHE, debian_mirrors, machine_sources, new_folder
from kdumpd.rehearse.vm import Machine, Vm

SUITE = "bookworm"
RELEASE = "Debian 12"
PACKAGES = ("linux-image-amd64", "kdump-tools", "python3")  # the last is what the workload is written in
CRASHKERNEL = "256M"
MEMORY = 2048
SIZE = 4 << 30
_PREPARE_SECONDS = 900.0
LIBRARY = "usr/local/lib/bench"

_PREPARE_SERVICE = """[Unit]
Description=Go off once kdump-tools has made its initramfs and loaded its kernel
ConditionKernelCommandLine=bench=prepare
FailureAction=poweroff-force
SuccessAction=poweroff
After=kdump-tools.service
Requires=kdump-tools.service

[Service]
Type=oneshot
ExecStart=/bin/grep -q 1 /sys/kernel/kexec_crash_loaded
ExecStart=/bin/sh -c 'echo "<5>bench: prepared" >/dev/kmsg'
"""
_SERVICE = f"""[Unit]
Description=Fill memory and crash
ConditionKernelCommandLine=bench=crash
FailureAction=poweroff-force
After=kdump-tools.service
Requires=kdump-tools.service

[Service]
Type=oneshot
Environment=PYTHONPATH=/{LIBRARY}
ExecStart=/usr/bin/python3 -m bench.kdump_tools.crash
StandardOutput=journal+console
StandardError=journal+console
"""

# In the capture kernel, when its command line asks for it: the smallest MemAvailable seen so far, on the console.
_MEMORY_SERVICE = """[Unit]
Description=Watch the memory
DefaultDependencies=no
ConditionKernelCommandLine=bench.memory

[Service]
ExecStart=/usr/local/lib/bench/memory
"""
_MEMORY = """#!/bin/sh
least=999999999
while :; do
    while read -r name value unit; do
        [ "$name" = MemAvailable: ] && break
    done </proc/meminfo
    if [ "$value" -lt "$least" ]; then
        least=$value
        echo "<5>bench: memory $least $unit" >/dev/kmsg
    fi
    sleep 0.2
done
"""


class Debian(NamedTuple):
    """The installed system: its disk as the first boot left it, its kernel and initramfs, and kdump-tools' own."""

    disk: Path
    kernel: Kernel
    initrd: Path
    capture_initrd: Path


Say = Callable[[str], None]


def made(say: Say) -> Debian:
    """The system from the cache, or made now; HostError says what is missing."""
    folder = CACHE / "kdump-tools" / _recipe_hash()
    if not folder.is_dir():
        with new_folder(folder) as new:
            _make(new, say)
    return _in(folder)


def command_line(*words: str) -> str:
    """The first kernel's."""
    return " ".join(("console=ttyS0 root=/dev/vda rw", f"crashkernel={CRASHKERNEL}", "panic=5", *words))


def _recipe_hash() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def _in(folder: Path) -> Debian:
    releases = [path.name for path in (folder / "lib/modules").iterdir()]
    kernel = installed(releases[0], folder)
    if kernel is None:
        raise HostError(f"{folder}: has no kernel; remove it to have it made again")
    return Debian(
        folder / "disk", kernel, folder / "boot" / f"initrd.img-{kernel.release}", folder / "capture-initrd.img"
    )


def _make(folder: Path, say: Say) -> None:
    if shutil.which("debootstrap") is None:
        raise HostError("debootstrap: not found; install it: apt-get install debootstrap")
    root = folder / "root"
    debian, security = debian_mirrors(machine_sources())
    say(f"installing {RELEASE} with kdump-tools from {debian.uri} (two minutes)")
    _run("debootstrap", SUITE, str(root), debian.uri)
    lines = [f"deb {debian.uri} {SUITE} main", f"deb {debian.uri} {SUITE}-updates main"]
    if security is not None:
        lines.append(f"deb {security.uri} {SUITE}-security main")
    (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in lines))
    _start_nothing(root)
    # A /proc of its own for what maintainer scripts ask of it, gone with the last of them.
    inside = ("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", str(root))
    settings = ("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
    _run(*inside, *settings, "apt-get", "update", "-q")
    _run(*inside, *settings, "apt-get", "install", "-q", "--yes", *PACKAGES)
    _run(*inside, "apt-get", "clean")
    (root / "usr/sbin/policy-rc.d").unlink()
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
    (root / "etc/hostname").write_text("kdump-tools\n")
    _add_crash(root)
    shutil.copytree(root / "boot", folder / "boot")
    shutil.copytree(root / "lib/modules", folder / "lib/modules")
    with (folder / "disk").open("wb") as disk:
        disk.truncate(SIZE)
    _run("mkfs.ext4", "-q", "-F", "-d", str(root), str(folder / "disk"))
    shutil.rmtree(root)
    say("booting it once: kdump-tools makes its initramfs (three minutes)")
    _first_boot(folder)


def _start_nothing(root: Path) -> None:
    """Maintainer scripts start no service of the installed system."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def put(disk: Path, files: Mapping[str, Path]) -> None:
    """The files lie in the root file system of the disk at these places, whose directories are there."""
    commands = [line for inside, file in files.items() for line in (f"rm {inside}", f"write {file} {inside}")]
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write("".join(f"{line}\n" for line in commands))
        script.flush()
        _run("debugfs", "-w", "-f", script.name, str(disk))


def _add_crash(root: Path) -> None:
    """Units, and packages without the modules: `bench.kdump_tools.capture` puts those in before each crash."""
    library = root / LIBRARY
    for package in ("bench/kdump_tools", "kdumpd/rehearse"):
        (library / package).mkdir(parents=True)
        for folder in (package, package.partition("/")[0]):
            (library / folder / "__init__.py").touch()
    (library / "memory").write_text(_MEMORY)
    (library / "memory").chmod(0o755)
    units = root / "etc/systemd/system"
    for name, text, wanted_by in (
        ("bench-prepare.service", _PREPARE_SERVICE, "multi-user.target"),
        ("bench.service", _SERVICE, "multi-user.target"),
        ("bench-memory.service", _MEMORY_SERVICE, "kdump-tools-dump.service"),
    ):
        (units / name).write_text(text)
        (units / f"{wanted_by}.wants").mkdir(exist_ok=True)
        (units / f"{wanted_by}.wants" / name).symlink_to(f"/etc/systemd/system/{name}")


def _first_boot(folder: Path) -> None:
    system = _in(folder)
    machine = Machine(
        kernel=system.kernel.vmlinuz,
        initrd=system.initrd,
        command_line=command_line("bench=prepare"),
        memory=MEMORY,
        disks=(system.disk,),
    )
    with Vm(machine) as vm:
        vm.wait_line("bench: prepared", _PREPARE_SECONDS)
        vm.wait_end(120)
    inside = f"/var/lib/kdump/initrd.img-{system.kernel.release}"
    _run("debugfs", "-R", f"dump {inside} {system.capture_initrd}", str(system.disk))
    if not system.capture_initrd.stat().st_size:
        raise HostError(f"{system.disk}: kdump-tools left no {inside}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise HostError(f"{command[0]} {command[-1]}: {last}")
