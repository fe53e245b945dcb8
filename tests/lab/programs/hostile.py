"""Requests that no sane program makes, and ends that no program wants; the module's state before and after.

`requests`: how many malformed ones; `cycles` of map, scan and unmap; `kills` in the middle of a scan; `seed`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
import re
import select as poller
import signal
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Any

from kdumpd.policy.model import EngineChoice, MappingPageSize, MappingStrategy, PageKind
from kdumpd.scan import requests
from kdumpd.scan.device import Device
from kdumpd.scan.engine import ScanOptions, select
from kdumpd.scan.kernel import windows_of
from kdumpd.scan.mapping import Machine, linear_ranges
from kdumpd.scan.requests import Strategy, pack_layout
from kdumpd.scan.selection import present_pages
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.vmcore import Vmcore

DEVICE = "/dev/kdumpd_scan"
PORTION = 250  # requests of one child
HELD = Path("/sys/module/kdumpd_scan/parameters/held")
ABSURD = (0, 1, 7, 8, 4095, 4096, 1 << 18, (1 << 31) - 1, 1 << 32, 1 << 52, 1 << 62, 1 << 63, (1 << 64) - 1)
# Not mapped; the kernel's; the edges of user space.
WILD = (0, 8, 4096, (1 << 47) - 4096, 1 << 47, 0xFFFF888000000000, 0xFFFFFFFF81000000, (1 << 64) - 8)


class Null:
    """Takes bitmap 2."""

    def write(self, bits: bytes) -> None:
        """It is not wanted."""


class Valid:
    """Requests that would succeed, over this crash's memory, and the buffers that they point to."""

    def __init__(self, core: Vmcore, device: Device) -> None:
        self.ranges = linear_ranges(core.memory.stored_ranges, (), Machine.here().own)
        self.mapped = device.map(self.ranges, Strategy.LINEAR, 30)
        first, end, touching = next(windows_of(core.mem_map(), core.max_pfn))
        self.bytes_of_ranges = array("Q", (number for extent in self.ranges for number in extent))
        self.runs = array("Q", (number for run in touching for number in run))
        self.present = array("Q", (n for i in present_pages(core.memory.stored_ranges, core.page_size) for n in i))
        self.layout = array("B", pack_layout(PageLayout.of(core.info), core.page_size))
        # Of its own mapping, so that what the module writes behind it would be seen as a fault.
        self.buffer = mmap.mmap(-1, 8 << 20)
        self.window = (first, end)

    def map(self) -> list[int]:
        address, length = self.bytes_of_ranges.buffer_info()
        fields = requests.Map(requests.MAP.size, requests.VERSION, Strategy.LINEAR, 30, address, length // 2)
        return list(fields)

    def scan(self) -> list[int]:
        fields = requests.Scan(
            size=requests.SCAN.size,
            version=requests.VERSION,
            map=self.mapped.id,
            level=31,
            layout=self.layout.buffer_info()[0],
            runs=self.runs.buffer_info()[0],
            present=self.present.buffer_info()[0],
            hands_off=0,
            layout_size=len(self.layout),
            run_count=len(self.runs) // 3,
            present_count=len(self.present) // 2,
            hands_off_count=0,
            first_pfn=self.window[0],
            end_pfn=self.window[1],
            bitmap=self.at(0),
            bitmap_size=1 << 20,
            timeout=5 * 10**9,
        )
        return list(fields)

    def gather(self) -> list[int]:
        fields = requests.Gather(
            size=requests.GATHER.size,
            version=requests.VERSION,
            map=self.mapped.id,
            page_size=4096,
            first_pfn=1 << 12,
            bits=4096,
            bitmap=self.at(1 << 20),
            buffer=self.at(2 << 20),
            buffer_size=4 << 20,
            zero=self.at(7 << 20),
            zero_size=4096,
        )
        return list(fields)

    def unmap(self) -> list[int]:
        return list(requests.Unmap(requests.UNMAP.size, requests.VERSION, 1 << 20))

    def progress(self) -> list[int]:
        return list(requests.Progress(requests.PROGRESS.size, requests.VERSION))

    def at(self, offset: int) -> int:
        """An address in the buffer."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.buffer, offset))


def known(valid: Valid) -> tuple[tuple[int, Struct, Callable[[], list[int]]], ...]:
    """Each request: its number, its structure, and one that would succeed."""
    return (
        (requests.KDUMPD_MAP, requests.MAP, valid.map),
        (requests.KDUMPD_SCAN, requests.SCAN, valid.scan),
        (requests.KDUMPD_GATHER, requests.GATHER, valid.gather),
        (requests.KDUMPD_UNMAP, requests.UNMAP, valid.unmap),
        (requests.KDUMPD_PROGRESS, requests.PROGRESS, valid.progress),
    )


def malformed(valid: Valid, chance: random.Random) -> tuple[int, bytes]:
    """A request with a few fields that are not what they should be, or no sense at all."""
    number, structure, good = chance.choice(known(valid))
    if chance.random() < 0.1:
        return chance.choice((number, chance.getrandbits(32))), chance.randbytes(512)
    fields = good()
    widths = [int(width) for width in re.sub(r"(\d*)([IQ])", _widths, structure.format.lstrip("=")).split()]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        field = chance.randrange(len(fields))
        old = fields[field]
        new = chance.choice((*ABSURD, *WILD, old + 1, old - 1, old ^ 1 << chance.randrange(64), chance.getrandbits(64)))
        fields[field] = new % (1 << 8 * widths[field])
    if chance.random() < 0.3:  # what the arrays hold is wrong as well
        number, structure, fields = requests.KDUMPD_SCAN, requests.SCAN, valid.scan()
        for spoiled in (valid.runs, valid.present, valid.layout):
            _spoil(spoiled, chance)
    return number, structure.pack(*fields).ljust(512, b"\0")


def _widths(found: re.Match[str]) -> str:
    width = {"I": "4", "Q": "8"}[found[2]]
    return f"{width} " * int(found[1] or 1)


def _spoil(elements: array[int], chance: random.Random) -> None:
    place, most = chance.randrange(len(elements)), (1 << 8 * elements.itemsize) - 1
    elements[place] = chance.choice((*ABSURD, elements[place] + 1, chance.getrandbits(64))) & most


def harass(core: Vmcore, count: int, seed: int) -> dict[str, int]:
    """What the module answered to `count` malformed requests.

    Some of them have it write over whoever asks, as they ask it to: so a child asks, and another takes its place.
    """
    answers: Counter[str] = Counter()
    asked = 0
    while asked < count:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, lambda number, frame: None)
            _ask(core, min(PORTION, count - asked), random.Random(seed + asked), writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        answers.update(errno.errorcode[number] if number else "done" for number in told)
        asked += max(1, len(told))
    return dict(answers)


def _ask(core: Vmcore, count: int, chance: random.Random, pipe: int) -> None:
    """Make `count` requests, and say of each how it ended, a byte each."""
    device = Device.open(DEVICE)
    for number in range(count):
        if number % 25 == 0:  # what was spoiled is whole again
            device.close()
            device = Device.open(DEVICE)
            valid = Valid(core, device)
            valid.buffer[1 << 20 : (1 << 20) + 512] = chance.randbytes(512)
        code, request = malformed(valid, chance)
        if chance.random() < 0.02:
            signal.setitimer(signal.ITIMER_REAL, chance.random() / 50)
        ended = 0
        try:
            fcntl.ioctl(device.fileno(), code, bytearray(request))
        except OSError as error:
            ended = error.errno or 0
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(pipe, bytes((ended,)))


def state() -> dict[str, int]:
    """What a leak would change: what the module says it holds, the kernel's mappings, page tables, memory."""
    meminfo = dict(re.findall(r"(\w+):\s+(\d+)", Path("/proc/meminfo").read_text()))
    mappings = Path("/proc/vmallocinfo").read_text()
    return {
        "held": int(HELD.read_text()),
        "mappings": len(re.findall(r"ks_\w+|kdumpd_scan", mappings)),
        "ioremap": len(re.findall(r"\bioremap\b", mappings)),
        "slab": int(meminfo["SUnreclaim"]),
        "tables": int(meminfo["PageTables"]),
        "free": int(meminfo["MemFree"]),
    }


def settled() -> dict[str, int]:
    """The state once what was given up has really gone."""
    time.sleep(0.5)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    time.sleep(0.5)
    return state()


def cycle(core: Vmcore, number: int) -> None:
    """Map, scan, unmap, close, by one strategy after the other."""
    strategies = (MappingStrategy.LINEAR, MappingStrategy.CHUNK, MappingStrategy.PAGE)
    options = ScanOptions(EngineChoice.KERNEL, strategies[number % 3], MappingPageSize.AUTO)
    selected = select(core, PageKind(31), (), Null(), None, options)
    if selected.pages is not None:
        selected.pages.close()


def kill(core: Vmcore, chance: random.Random) -> None:
    """A process that maps and scans over and over ends in the middle of it."""
    child = os.fork()
    if not child:
        number = chance.randrange(3)
        while True:
            cycle(core, number)
            number += 1
    time.sleep(chance.random() / 10)
    os.kill(child, signal.SIGKILL)
    started = time.monotonic()
    os.waitpid(child, 0)
    if time.monotonic() - started > 1:
        raise RuntimeError("a killed process took over a second to end")


def news(core: Vmcore) -> dict[str, Any]:
    """What poll and PROGRESS tell of a scan by another process with the same file."""
    device = Device.open(DEVICE)
    valid = Valid(core, device)
    child = os.fork()
    if not child:
        for _ in range(20):
            fcntl.ioctl(device.fileno(), requests.KDUMPD_SCAN, bytearray(requests.SCAN.pack(*valid.scan())))
        os._exit(0)
    told: list[tuple[int, int, int]] = []
    watch = poller.poll()
    watch.register(device.fileno(), poller.POLLIN)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if watch.poll(200):
            progress = device.progress()
            told.append((progress.done, progress.total, progress.running))
    last = device.progress()
    quiet = watch.poll(0)
    device.close()
    return {"times": len(told), "last": [last.done, last.total, last.running], "quiet": not quiet}


def interrupted(core: Vmcore) -> list[float]:
    """Seconds from a signal to the end of the request that it met, of those that met one."""
    device = Device.open(DEVICE)
    valid = Valid(core, device)
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    taken: list[float] = []
    for _ in range(20):
        rings = time.monotonic() + 0.002
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        try:
            fcntl.ioctl(device.fileno(), requests.KDUMPD_SCAN, bytearray(requests.SCAN.pack(*valid.scan())))
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
            taken.append(time.monotonic() - rings)
    device.close()
    return taken


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """The answers, and the state before and after each kind of abuse."""
    chance = random.Random(arguments["seed"])
    with Vmcore.open("/proc/vmcore") as core:
        for number in range(6):  # what is made once and kept
            cycle(core, number)
            kill(core, chance)
        found: dict[str, Any] = {"before": settled()}
        found["answers"] = harass(core, arguments["requests"], arguments["seed"])
        found["after requests"] = settled()
        for number in range(arguments["cycles"]):
            cycle(core, number)
        found["after cycles"] = settled()
        for _ in range(arguments["kills"]):
            kill(core, chance)
        found["after kills"] = settled()
        found["news"] = news(core)
        found["interrupted"] = interrupted(core)
        return found
