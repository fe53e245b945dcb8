"""The capture kernel's command line: the running kernel's, without what must not reach it, with what it needs. Pure.

Defaults are those of kdump-utils (kdump-lib.sh, 60-kdump.install and its sysconfig files by architecture), as far as
they concern a kernel that runs this image. Called by `plan` and by `rehearse`. May import `policy.model` and `errors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from kdumpd.errors import LoadError
from kdumpd.policy.model import CaptureKernel

#: Bytes that the kernel keeps of a command line (COMMAND_LINE_SIZE), its terminating NUL included.
LIMITS = {"x86_64": 2048, "aarch64": 2048}

#: Room for what kexec and the kernel add themselves: elfcorehdr=0x… and, on some machines, acpi_rsdp=0x….
ADDED_BY_KEXEC = 64

_EVERYWHERE = (
    "reset_devices",
    "panic=10",
    "novmcoredd",
    "hugetlb_cma=0",
    "kfence.sample_interval=0",
    "initramfs_options=size=90%",
    "cma=0",
    # The file systems of debugging, which no capture mounts, take memory for each of their thousands of files.
    "debugfs=off",
    "initcall_blacklist=tracer_init_tracefs",
)
#: Each of several has an effect: one that is a default does not keep the running kernel's out.
_REPEATED = frozenset({"initcall_blacklist"})
_APPENDED = {
    "x86_64": (
        "irqpoll",
        "cgroup_disable=memory",
        "mce=off",
        "numa=off",
        "udev.children-max=2",
        "acpi_no_memhotplug",
        "transparent_hugepage=never",
        "nokaslr",
        "hest_disable",
        "pcie_ports=compat",
    ),
    "aarch64": ("irqpoll", "cgroup_disable=memory", "udev.children-max=2", "swiotlb=noforce"),
}

#: Parameters of the running system that a capture kernel must not get.
_REMOVED = frozenset(
    name.replace("-", "_")
    for group in (
        # how this one was booted, and the root file system that a capture does not have
        "BOOT_IMAGE initrd crashkernel elfcorehdr root rootflags rootfstype rootdelay rootwait ro rw resume",
        "resume_offset init rdinit ostree ignition.firstboot single emergency rescue",
        # memory and processors of the whole machine
        "mem memmap hugepages hugepagesz default_hugepagesz swiotlb log_buf_len movablecore kernelcore",
        "nr_cpus maxcpus possible_cpus isolcpus nohz_full rcu_nocbs irqaffinity disable_cpu_apicid",
        "trace_buf_size trace_clock trace_event trace_options trace_trigger alloc_snapshot stacktrace tp_printk",
        "page_owner page_poison debug_pagealloc",
        # what would hide or end the capture: a warning that panics is a lost dump
        "quiet splash oops panic_on_warn panic_on_oops panic_on_taint softlockup_panic hardlockup_panic",
        "hung_task_panic panic_print nmi_watchdog unknown_nmi_panic panic_on_io_nmi panic_on_unrecovered_nmi",
        "panic_on_rcu_stall rcupdate.rcu_cpu_stall_suppress workqueue.panic_on_stall workqueue.panic_on_stall_time",
        "kgdbwait crash_kexec_post_notifiers kaslr nomodule nomodules",
    )
    for name in group.split()
)
#: Whole families: sysctls set at boot (with a dot or a slash), tracing, checks of every allocation, the initramfs and
#: the init of the running system, what our own module was told there.
_REMOVED_FAMILIES = (
    "kdumpd_scan.",
    "sysctl.",
    "sysctl/",
    "ftrace",
    "slub_debug",
    "slab_debug",
    "rd.",
    "systemd.",
    "dracut.",
)

_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


class Machine(NamedTuple):
    """What of the machine decides: architecture, processors, the boot processor's APIC id, reservation in bytes, and
    the release of the kernel that will capture."""

    machine: str
    cpus: int
    boot_cpu: int | None
    reservation: int
    release: str


def words(command_line: str) -> tuple[str, ...]:
    """The parameters of a command line; blanks inside double quotes do not part them (Linux lib/cmdline.c), and what
    follows a lone `--` belongs to the running system's init."""
    found = tuple(_WORD.findall(command_line))
    return found[: found.index("--")] if "--" in found else found


def name_of(word: str) -> str:
    """A parameter's name; the kernel takes dashes and underscores for the same."""
    return word.partition("=")[0].strip('"').replace("-", "_")


def _release_number(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _has_boot_cpu_trouble(on: Machine) -> bool:
    """Whether the boot processor must be told to stay down after a crash on another: starting it by INIT resets the
    machine (Linux, Documentation/admin-guide/kdump/kdump.rst). From 6.9 the kernel leaves it alone by itself."""
    return on.machine == "x86_64" and _release_number(on.release) < (6, 9)


def processors(asked: int | None, on: Machine) -> int:
    """How many processors the capture kernel brings up; one where a second could be fatal, whatever is asked.

    Automatic: one for each 256 MiB of the reservation, at most four. Each costs about a MiB of per-processor memory
    and a worker, and below that the memory is worth more than the time.
    """
    if _has_boot_cpu_trouble(on) and on.boot_cpu is None:
        return 1
    automatic = min(4, max(1, on.reservation // (256 << 20)))
    return max(1, min(on.cpus, automatic if asked is None else asked))


def _processor_words(count: int, on: Machine) -> tuple[str, ...]:
    own = [f"nr_cpus={count}"]
    if count > 1 and _has_boot_cpu_trouble(on):
        own.append(f"disable_cpu_apicid={on.boot_cpu}")
    return tuple(own)


def _without(present: Iterable[str], unwanted: Iterable[str]) -> tuple[str, ...]:
    """Words but those that are named: a bare name takes out every word of that name, name=value that word alone."""
    exact = {word for word in unwanted if "=" in word}
    names = {name_of(word) for word in unwanted if "=" not in word}
    return tuple(word for word in present if word not in exact and name_of(word) not in names)


def render(running: str, kernel: CaptureKernel, on: Machine, hints: tuple[str, ...] = ()) -> str:
    """The whole command line, but for what kexec adds.

    Order: what is left of the running kernel's, the defaults, the words of `hints`, the policy's `append`; the policy's
    `remove` takes from the first two. Raises LoadError when it is longer than the kernel keeps.
    """
    count = processors(kernel.cpus, on)
    defaults = (*_APPENDED.get(on.machine, ()), *_processor_words(count, on), *_EVERYWHERE)
    replaced = ({name_of(word) for word in defaults} | _REMOVED) - _REPEATED
    inherited = (
        word
        for word in words(running)
        if name_of(word) not in replaced and not name_of(word).startswith(_REMOVED_FAMILIES)
    )
    result = " ".join((*_without((*inherited, *defaults), kernel.remove), *hints, *kernel.append))
    limit = LIMITS.get(on.machine, min(LIMITS.values())) - 1 - ADDED_BY_KEXEC
    if len(result.encode()) > limit:
        raise LoadError(
            f"capture_kernel: the command line has {len(result.encode())} bytes, {on.machine} keeps {limit}; "
            "shorten capture_kernel.append, name fewer ranges in memmap, or name in capture_kernel.remove what it "
            f"inherits: {result[:60]}…"
        )
    return result
