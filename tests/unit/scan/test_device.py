"""The device's errors: one clear line each, all different."""

from __future__ import annotations

import errno
import os
import re
from array import array
from pathlib import Path

import pytest

from kdumpd.errors import ScanError
from kdumpd.scan.device import MEANINGS, Device, Window, address
from kdumpd.scan.requests import Strategy
from kdumpd.vmcore.memory import Range

HEADER = Path(__file__).parents[3] / "kmod" / "kdumpd_scan.h"


def test_every_error_of_the_header_has_a_meaning_of_its_own() -> None:
    named = re.findall(r"^ \*   (E[A-Z0-9]+)  ", HEADER.read_text(), re.MULTILINE)
    assert {getattr(errno, name) for name in named} == set(MEANINGS)
    assert len(set(MEANINGS.values())) == len(MEANINGS)
    assert not any("\n" in meaning for meaning in MEANINGS.values())


def test_device_that_is_not_there_says_that_the_module_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(ScanError) as caught:
        Device.open(str(tmp_path / "kdumpd_scan"))
    assert str(caught.value) == f"{tmp_path}/kdumpd_scan: is not there: the module kdumpd_scan is not loaded"


def test_every_request_to_something_else_is_one_clear_line() -> None:
    device = Device(os.open("/dev/null", os.O_RDWR), "/dev/null")
    window = Window(0, 1, array("Q"), array("Q"), array("Q"))
    buffer = array("B", bytes(4096))
    calls = (
        lambda: device.map([Range(0, 4096)], Strategy.LINEAR, 30),
        lambda: device.scan(1, bytes(184), 0, window, buffer, 0),
        lambda: device.gather(1, 4096, 0, buffer, buffer, 0, buffer),
        lambda: device.unmap(1),
        device.progress,
    )
    said = set()
    for call in calls:
        with pytest.raises(ScanError) as caught:
            call()
        said.add(str(caught.value))
    assert len(said) == len(calls)
    assert all(line.startswith("/dev/null: ") and "does not know this request" in line for line in said)
    device.close()
    with pytest.raises(ScanError, match="Bad file descriptor; look at the kernel's log"):
        device.unmap(1)


def test_address_is_where_the_bytes_are() -> None:
    words = array("Q", [1, 2, 3])
    with Path("/proc/self/mem").open("rb", 0) as memory:
        memory.seek(address(words))
        assert memory.read(24) == words.tobytes()
    assert address(array("Q")) == 0
