"""A small machine as files: /proc, /sys, /dev and /run with a disk, a partition, and what a test adds."""

from __future__ import annotations

from pathlib import Path

from kdumpd.host.target import Places

IOMEM = """\
00000000-00000fff : Reserved
00100000-7fffffff : System RAM
  01000000-01ffffff : Kernel code
  60000000-6bffffff : Crash kernel
"""
CPUINFO = "processor\t: 0\ninitial apicid\t: 2\n\nprocessor\t: 1\ninitial apicid\t: 0\n"


class FakeMachine:
    """Folders below `base`; `places` is what the code under test is given."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.places = Places(*(base / name for name in ("proc", "sys", "dev", "run", "etc")))
        self.write("proc/sys/kernel/osrelease", "6.1.0-9-test\n")
        self.write("proc/sys/kernel/arch", "x86_64\n")
        self.write("proc/sys/kernel/hostname", "fake\n")
        self.write("proc/sys/kernel/random/boot_id", "boot-1\n")
        self.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet console=ttyS0 crashkernel=192M\n")
        self.write("proc/iomem", IOMEM)
        self.write("proc/cpuinfo", CPUINFO)
        self.write("sys/kernel/kexec_crash_loaded", "0\n")
        self.write("sys/kernel/kexec_crash_size", "201326592\n")
        self.disk = self.device("pci0000:00/0000:00:04.0/ata1/host0/target0:0:0/0:0:0:0/block/sda", "8:0")
        self.driver("pci0000:00/0000:00:04.0", "ahci", module="ahci")
        self.driver("pci0000:00/0000:00:04.0/ata1/host0/target0:0:0/0:0:0:0", "sd", module="sd_mod")
        self.partition = self.device(f"{self.disk}/sda1", "8:1")
        self.write(f"sys/devices/{self.partition}/partition", "1\n")
        self.mounts("27 1 8:1 / / rw - ext4 /dev/sda1 rw")

    def write(self, path: str, text: str) -> None:
        (self.base / path).parent.mkdir(parents=True, exist_ok=True)
        (self.base / path).write_text(text)

    def mounts(self, *lines: str) -> None:
        self.write("proc/self/mountinfo", "".join(f"{line}\n" for line in lines))

    def device(self, path: str, number: str) -> str:
        """A block device at `path` below /sys/devices."""
        self.write(f"sys/devices/{path}/dev", f"{number}\n")
        self.link(f"sys/dev/block/{number}", f"sys/devices/{path}")
        self.link(f"sys/class/block/{Path(path).name}", f"sys/devices/{path}")
        return path

    def driver(self, path: str, name: str, module: str = "", modalias: str = "") -> None:
        """A driver bound at `path` below /sys/devices; one without a module is built in."""
        folder = self.base / "sys/bus/drivers" / name
        folder.mkdir(parents=True, exist_ok=True)
        if module:
            (self.base / "sys/module" / module).mkdir(parents=True, exist_ok=True)
            self.link(f"sys/bus/drivers/{name}/module", f"sys/module/{module}")
        self.link(f"sys/devices/{path}/driver", f"sys/bus/drivers/{name}")
        if modalias:
            self.write(f"sys/devices/{path}/modalias", f"{modalias}\n")

    def link(self, path: str, target: str) -> None:
        (self.base / path).parent.mkdir(parents=True, exist_ok=True)
        if not (self.base / path).is_symlink():
            (self.base / path).symlink_to(self.base / target)
