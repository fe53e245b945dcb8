"""The capture kernel's command line, made from the running kernel's."""

from __future__ import annotations

import pytest

from kdumpd.errors import LoadError
from kdumpd.loader.commandline import Machine, processors, render, words
from kdumpd.policy.model import Boot, CaptureKernel

RUNNING = (
    "BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro quiet console=tty0 console=ttyS0,115200n8 crashkernel=192M "
    "hugepages=64 panic_on_warn=1 sysctl.kernel.softlockup_panic=1 nvme_core.io_timeout=60 numa=on rd.lvm.lv=vg/root "
    "log-buf-len=16M"
)
MACHINE = Machine("x86_64", cpus=8, boot_cpu=0, reservation=192 << 20, release="6.1.0-50-amd64")
PLAIN = CaptureKernel(Boot.AUTO, None, (), ())

X86_64 = (
    "console=tty0 console=ttyS0,115200n8 nvme_core.io_timeout=60 irqpoll cgroup_disable=memory mce=off numa=off "
    "udev.children-max=2 acpi_no_memhotplug transparent_hugepage=never nokaslr hest_disable pcie_ports=compat "
    "nr_cpus=1 reset_devices panic=10 novmcoredd hugetlb_cma=0 kfence.sample_interval=0 "
    "initramfs_options=size=90% cma=0 debugfs=off initcall_blacklist=tracer_init_tracefs"
)


def kernel(append: tuple[str, ...] = (), remove: tuple[str, ...] = (), cpus: int | None = None) -> CaptureKernel:
    return CaptureKernel(Boot.AUTO, cpus, append, remove)


def test_a_servers_line_loses_what_must_not_reach_a_capture_and_gains_the_defaults() -> None:
    assert render(RUNNING, PLAIN, MACHINE) == X86_64


def test_aarch64_has_its_own_defaults() -> None:
    line = words(render("console=ttyAMA0", PLAIN, MACHINE._replace(machine="aarch64", boot_cpu=None)))
    assert "swiotlb=noforce" in line
    assert "mce=off" not in line


def test_what_a_default_sets_is_not_inherited() -> None:
    assert words(render("numa=on panic=0 transparent-hugepage=always", PLAIN, MACHINE)).count("numa=off") == 1
    assert "numa=on" not in render("numa=on", PLAIN, MACHINE)
    assert "always" not in render("transparent-hugepage=always", PLAIN, MACHINE)


def test_an_initcall_that_the_running_kernel_leaves_out_is_left_out_of_a_capture_as_well() -> None:
    line = render("initcall_blacklist=broken_init debugfs=on", PLAIN, MACHINE)
    assert [word for word in words(line) if "initcall" in word or "debugfs" in word] == [
        "initcall_blacklist=broken_init",
        "debugfs=off",
        "initcall_blacklist=tracer_init_tracefs",
    ]


def test_append_comes_last_and_changes_nothing_else() -> None:
    assert render(RUNNING, kernel(append=("nomodeset", "panic=30")), MACHINE) == f"{X86_64} nomodeset panic=30"


def test_remove_takes_every_word_of_a_name_or_one_word_with_its_value() -> None:
    assert render(RUNNING, kernel(remove=("console=tty0",)), MACHINE) == X86_64.replace("console=tty0 ", "")
    assert "console" not in render(RUNNING, kernel(remove=("console",)), MACHINE)
    assert "irqpoll" not in render(RUNNING, kernel(remove=("irqpoll",)), MACHINE)


def test_what_the_hints_come_to_stands_before_what_the_policy_appends() -> None:
    line = render("", kernel(append=("last",)), MACHINE, ("memmap=64K$0x18690000",))
    assert line.endswith("cma=0 debugfs=off initcall_blacklist=tracer_init_tracefs memmap=64K$0x18690000 last")


def test_cpus_changes_the_processors_alone() -> None:
    four = render(RUNNING, kernel(cpus=4), MACHINE._replace(release="6.12.0"))
    assert four == X86_64.replace("nr_cpus=1", "nr_cpus=4")


@pytest.mark.parametrize(
    ("asked", "mebibytes", "present", "expected"),
    [(None, 128, 8, 1), (None, 512, 8, 2), (None, 4096, 8, 4), (None, 4096, 2, 2), (16, 128, 8, 8), (1, 4096, 8, 1)],
)
def test_processors_follow_the_reservation_unless_the_policy_says(
    asked: int | None, mebibytes: int, present: int, expected: int
) -> None:
    assert processors(asked, MACHINE._replace(cpus=present, reservation=mebibytes << 20)) == expected


@pytest.mark.parametrize(
    ("release", "cpus", "machine", "kept_down"),
    [
        ("6.1.0", 2, "x86_64", True),
        ("6.8.12", 2, "x86_64", True),
        ("6.9.0", 2, "x86_64", False),
        ("7.2", 2, "x86_64", False),
        ("6.1.0", 1, "x86_64", False),
        ("6.1.0", 2, "aarch64", False),
    ],
)
def test_the_boot_processor_stays_down_before_6_9(release: str, cpus: int, machine: str, kept_down: bool) -> None:
    line = render("", kernel(cpus=cpus), MACHINE._replace(release=release, machine=machine, boot_cpu=6))
    assert ("disable_cpu_apicid=6" in line) == kept_down


@pytest.mark.parametrize(
    ("release", "machine", "count"), [("6.1.0", "x86_64", 1), ("6.9.0", "x86_64", 4), ("6.1.0", "aarch64", 4)]
)
def test_one_processor_where_the_boot_processor_is_not_known_and_must_stay_down(
    release: str, machine: str, count: int
) -> None:
    on = MACHINE._replace(release=release, machine=machine, boot_cpu=None, reservation=4 << 30)
    assert (processors(None, on), processors(4, on)) == (count, count)


# Names as in Linux Documentation/admin-guide/kernel-parameters.txt.
@pytest.mark.parametrize(
    "word",
    [
        "sysctl.kernel.panic_on_oops=1",
        "sysctl/kernel/panic_on_oops=1",
        "panic_on_taint=0x20",
        "panic_on_warn",
        "nmi_watchdog=panic,1",
        "workqueue.panic_on_stall=1",
        "workqueue.panic_on_stall_time=120",
        "softlockup_panic=1",
        "hung_task_panic=1",
        "kgdbwait",
        "trace_buf_size=64M",
        "trace_event=kmem:*",
        "alloc_snapshot",
        "page_owner=on",
        "debug_pagealloc=on",
        "slub_debug=FZ",
        "slab_debug",
        "ftrace=function",
        "ftrace_dump_on_oops",
        "ftrace_filter=a*",
        "log_buf_len=16M",
        "kdumpd_scan.map=0x100000-0x200000",
        "kdumpd-scan.allow_live=1",
    ],
)
def test_what_could_end_a_capture_or_take_its_memory_is_not_inherited(word: str) -> None:
    assert render(f"kgdboc=ttyS1 {word}", PLAIN, MACHINE).startswith("kgdboc=ttyS1 irqpoll")


def test_blanks_inside_quotes_do_not_part_a_word_and_what_follows_two_dashes_is_inits() -> None:
    assert words('a dyndbg="file x.c +p" "b=c d" -- single --flag') == ("a", 'dyndbg="file x.c +p"', '"b=c d"')


def test_ranges_to_map_that_leave_no_room_for_the_rest_are_refused() -> None:
    ranges = ",".join(f"{at << 40:#x}-{at + 1 << 40:#x}" for at in range(1, 60))
    with pytest.raises(LoadError, match=r"has 2\d\d\d bytes, x86_64 keeps 1983; .* name fewer ranges in memmap"):
        render("", PLAIN, MACHINE, (f"kdumpd_scan.map={ranges}",))


def test_a_line_that_the_kernel_would_cut_is_refused_with_both_numbers() -> None:
    with pytest.raises(LoadError, match=r"has 2\d\d\d bytes, x86_64 keeps 1983"):
        render("", kernel(append=tuple(f"word{number:04}" for number in range(200))), MACHINE)
