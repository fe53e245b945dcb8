"""Steps under one budget."""

from __future__ import annotations

import os
import signal
import time

from kdumpd.capture import drivers
from kdumpd.capture.child import Tell
from kdumpd.capture.console import Console, uptime
from kdumpd.capture.door import Result
from kdumpd.capture.step import Steps


def steps(budget: float = 100.0) -> Steps:
    start = uptime()
    return Steps(Console(lambda line: None, clock=lambda: uptime() - start), budget)


def sleep(tell: Tell) -> Result:
    time.sleep(30)
    return {}


def test_a_step_leaves_its_time_and_its_failure() -> None:
    under = steps()
    under.run("target", 0.3, sleep)
    (timing,) = under.timings
    assert timing.stage == "target"
    assert 0.3 <= timing.seconds < 3
    assert "deadline" in timing.failure
    assert under.incidents == [f"target: failed: {timing.failure} ({timing.seconds:.1f} s)"]


def test_a_spent_budget_leaves_a_step_its_floor_alone() -> None:
    under = steps(budget=0.0)
    assert under.run("dump", 60.0, sleep).failure is not None
    assert under.run("dmesg", 60.0, lambda tell: {"done": 1}, floor=5.0).result == {"done": 1}


def test_a_tenth_of_the_budget_is_kept_for_closing() -> None:
    assert 89 < steps(100.0).left <= 90
    assert 1939 < steps(2000.0).left <= 1940


def test_a_signal_stops_the_dump_and_never_a_step_that_saves_the_log() -> None:
    under = steps()
    before = signal.signal(signal.SIGTERM, lambda number, frame: under.stop())

    def slow(tell: Tell) -> Result:
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(0.5)
        return {"done": 1}

    kept = under.run("dmesg", 10.0, slow, floor=1.0)
    signal.signal(signal.SIGTERM, before)
    assert kept.result == {"done": 1}
    stopped = under.run("dump", 10.0, sleep).failure
    assert stopped is not None
    assert stopped.kind == "stopped"
    assert under.run("dump", 10.0, lambda tell: {"done": 2}).result == {"done": 2}


def test_parameters_of_modules_are_taken_from_the_command_line() -> None:
    line = 'root=/dev/vda nvme_core.io_timeout=60 virtio-blk.queue_depth=8 nvme_core.default_ps="a b" kdump.x'
    assert drivers.parameters(line) == {
        "nvme_core": 'io_timeout=60 default_ps="a b"',
        "virtio_blk": "queue_depth=8",
        "kdump": "x",
    }


def test_drivers_are_loaded_in_order_and_one_that_is_there_already_counts() -> None:
    under = steps()

    def load(path: str, parameters: str) -> None:
        if "virtio_ring" in path:
            raise FileExistsError(17, "File exists", path)
        if "absent" in path:
            raise OSError(19, "No such device", path)

    drivers.load(under, load, ["/m/virtio.ko", "/m/virtio_ring.ko", "/m/absent.ko", "/m/virtio-blk.ko"], "")
    said = [line.partition("drivers: ")[2] for line in under.console.lines]
    assert said == ["absent: not loaded: No such device (harmless)", "3 of 4 modules loaded"]
    assert under.incidents == []


def test_a_driver_that_kills_its_loader_is_left_behind() -> None:
    under = steps()

    def load(path: str, parameters: str) -> None:
        if "bad" in path:
            os._exit(9)

    drivers.load(under, load, ["/m/good.ko", "/m/bad.ko", "/m/last.ko"], "")
    assert any("/m/bad.ko: left behind" in incident for incident in under.incidents)
    assert under.console.lines[-1].endswith("1 of 1 modules loaded")
