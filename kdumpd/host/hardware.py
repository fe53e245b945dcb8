"""Processors and memory as the ELF header of a loaded crash kernel lists them, when it is loaded.

What is added later a dump lacks, unless the kernel follows with the header of what is loaded (Linux 6.6 and newer,
CONFIG_CRASH_HOTPLUG: Documentation/ABI/testing/sysfs-devices-memory). Called by `host.facts` and `loader.early`, for
which every import is time: it has none. Pure.
"""

#: Below /sys: the processors that are there, on or off (0-3,8), each of which has a note with its registers.
CPUS = "devices/system/cpu/present"
#: "1" where the kernel follows.
FOLLOWS_CPUS, FOLLOWS_MEMORY = "devices/system/cpu/crash_hotplug", "devices/system/memory/crash_hotplug"


def memory(iomem: str) -> str:
    """The ranges of System RAM in /proc/iomem, what drivers have added included; "" for readers without privilege."""
    lines = [line.partition(" : ") for line in iomem.splitlines() if not line.startswith(" ")]
    ranges = [where for where, _, name in lines if name.startswith("System RAM")]
    return " ".join(where for where in ranges if where.strip("0-"))


def size(ranges: str) -> int:
    """Bytes in the ranges that `memory` gave."""
    pairs = (where.partition("-") for where in ranges.split())
    return sum(int(end, 16) + 1 - int(start, 16) for start, _, end in pairs)
