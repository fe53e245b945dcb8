"""A Debian root file system with systemd, as a disk that boots by its own GRUB: made once, kept in the cache.

debootstrap and apt fill a folder from the mirror that this machine's apt names; `mkfs.ext4 -d` makes the file system of
it without a mount, behind a boot record with GRUB. A guest of it has no network: what kdumpd's DEB depends on is there
already, kdumpd is not. Called by `life`; imports rehearse.packages. Needs root.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.rehearse.packages import CACHE, Say, debian_mirrors, machine_sources, new_folder
from tests.lab.system import bootdisk

REPOSITORY = Path(__file__).parents[3]
CONTROL = REPOSITORY / "packaging" / "debian" / "control"
INSIDE = Path(__file__).parent / "inside"

#: A small server: what debootstrap's smallest variant lacks of one, and what boots it.
SERVER = (
    *("apt", "bash-completion", "dbus", "e2fsprogs", "fdisk", "grub-pc-bin", "grub2-common", "initramfs-tools"),
    *("kmod", "mount", "procps", "python3", "systemd", "systemd-sysv", "udev", "util-linux", "zstd"),
)
KERNEL = "linux-image-amd64"
#: What kdumpd's package needs beside what its control file names: debhelper fills that in.
IMPLIED = ("python3",)
#: Each controller that a test may choose for the root's disk, and the file system.
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "nvme", "ahci", "sd_mod", "megaraid_sas", "ext4", "crc32c_generic")
#: What a server does by the clock, and consoles that nobody logs in at.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service"),
    *("systemd-timesyncd.service", "systemd-pcrphase.service"),
)
MACHINE_ID = "5c0de0de00004000800000000000c0de"
_DEFAULT_GRUB = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet systemd.show_status=yes"
GRUB_CMDLINE_LINUX="console=ttyS0 mitigations=off"
GRUB_TERMINAL=serial
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_SUBMENU=true
"""


class Root(NamedTuple):
    """A root in the cache: the disk that a guest's overlay lies on, and its kernel."""

    suite: str
    folder: Path

    @property
    def disk(self) -> Path:
        """A sparse disk, never written again."""
        return self.folder / "disk"

    @property
    def vmlinuz(self) -> Path:
        """The kernel that it boots."""
        return next(self.folder.glob("vmlinuz-*"))

    @property
    def release(self) -> str:
        """That kernel's release."""
        return self.vmlinuz.name.removeprefix("vmlinuz-")


def made(suite: str, extra: tuple[str, ...] = (), say: Say = print) -> Root:
    """The root of a Debian suite with these packages more, from the cache or made now (some minutes)."""
    packages = tuple(sorted({*SERVER, *IMPLIED, *dependencies(CONTROL.read_text()), *extra}))
    folder = CACHE / "roots" / f"{suite}-{_recipe_hash(suite, packages)}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                with new_folder(folder) as new:
                    _make(suite, packages, new, say)
    return Root(suite, folder)


def dependencies(control: str) -> tuple[str, ...]:
    """The packages that the package `kdumpd` of a control file depends on, the first of each alternative."""
    stanzas = re.split(r"\n\s*\n", control)
    own = next(stanza for stanza in stanzas if re.search(r"^Package: kdumpd$", stanza, re.MULTILINE))
    found = re.search(r"^Depends:(.*(?:\n[ \t].*)*)", own, re.MULTILINE)
    lines = [line for line in (found[1] if found else "").splitlines() if not line.strip().startswith("#")]
    clauses = " ".join(lines).split(",")
    names = (re.match(r"\s*([a-z0-9][a-z0-9+.-]+)", clause) for clause in clauses)
    return tuple(name[1] for name in names if name)


def _recipe_hash(suite: str, packages: tuple[str, ...]) -> str:
    sources = [*sorted(Path(__file__).parent.glob("*disk.py")), Path(__file__), *sorted(INSIDE.iterdir())]
    text = "\n".join((suite, *packages)).encode()
    return hashlib.sha256(text + b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def _make(suite: str, packages: tuple[str, ...], folder: Path, say: Say) -> None:
    if shutil.which("debootstrap") is None:
        raise HostError("debootstrap: not found; install it: apt-get install debootstrap")
    root = folder / "root"
    debian, security = debian_mirrors(machine_sources())
    say(f"installing Debian {suite} with systemd as a root for guests (some minutes)")
    keyring = [f"--keyring={debian.signed_by}"] if debian.signed_by.startswith("/") else []
    _run("debootstrap", "--variant=minbase", *keyring, suite, str(root), debian.uri)
    lines = [f"deb {debian.uri} {name} main" for name in (suite, f"{suite}-updates")]
    if security is not None:
        lines.append(f"deb {security.uri} {suite}-security main")
    sources = root / "etc/apt/sources.list"
    sources.write_text("".join(f"{line}\n" for line in lines))
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # maintainer scripts start nothing here
    policy.chmod(0o755)
    _install(root, packages)
    (root / "etc/initramfs-tools/conf.d/guest").write_text("MODULES=list\nRESUME=none\n")
    (root / "etc/initramfs-tools/modules").write_text("".join(f"{name}\n" for name in INITRAMFS_MODULES))
    _install(root, (KERNEL,))
    _in_root(root, "apt-get", "clean")
    policy.unlink()
    sources.write_text("# A guest has no network.\n")
    for lists in (root / "var/lib/apt/lists", root / "usr/share/doc", root / "usr/share/locale"):
        shutil.rmtree(lists)
        lists.mkdir()
    _settle(root)
    release = next((root / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    shutil.copy2(root / "boot" / f"vmlinuz-{release}", folder)
    bootdisk.make(root, folder / "disk", release)
    shutil.rmtree(root)


def _install(root: Path, packages: tuple[str, ...]) -> None:
    _in_root(root, "apt-get", "update", "-q")
    _in_root(root, "apt-get", "install", "-q", "--yes", "--no-install-recommends", *packages)


def _settle(root: Path) -> None:
    """What an administrator has set up, and the agent that a test speaks to."""
    etc = root / "etc"
    (etc / "hostname").write_text("debian\n")
    (etc / "hosts").write_text("127.0.0.1 localhost debian\n")
    (etc / "machine-id").write_text(f"{MACHINE_ID}\n")  # else the first boot applies presets and takes long
    (etc / "fstab").write_text(f"UUID={bootdisk.UUID} / ext4 errors=remount-ro 0 1\n")
    (etc / "default/grub").write_text(_DEFAULT_GRUB)
    (root / "var/log/journal").mkdir(exist_ok=True)
    for unit in MASKED:
        (etc / "systemd/system" / unit).unlink(missing_ok=True)
        (etc / "systemd/system" / unit).symlink_to("/dev/null")
    shutil.copy2(INSIDE / "agent.py", root / "usr/local/sbin/test-agent")
    (root / "usr/local/sbin/test-agent").chmod(0o755)
    shutil.copy2(INSIDE / "test-agent.service", etc / "systemd/system")
    wanted = etc / "systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "test-agent.service").symlink_to("/etc/systemd/system/test-agent.service")


def _in_root(root: Path, *command: str) -> None:
    # A /proc of its own for what maintainer scripts ask of it, gone with the last of them.
    inside = ("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", str(root))
    _run(*inside, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise HostError(f"{command[0]} {command[-1]}: {last}")
