"""Each key of the policy changes what it is documented to change of image and command line, and nothing else there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from kdumpd.plan.gather import gather
from kdumpd.plan.situation import Situation
from kdumpd.policy.load import parse
from tests.unit.host.machine import FakeMachine
from tests.unit.image.elf import module
from tests.unit.image.kerneltree import RELEASE, tree

#: What a changed key is seen in. The manifest has the hash of the policy, but for what no capture uses of it.
POLICY = {"policy_sha256"}
LINE = {"command line"}

CASES: list[tuple[str, set[str]]] = [
    ("dump: {level: 17}", POLICY),
    ("dump: {compression: zlib}", POLICY),
    ("dump: {dmesg: false}", POLICY),
    ("dump: {jobs: 2}", POLICY),
    ("scan: {engine: user}", POLICY | {"scan", "sources"}),
    ("scan: {engine: kernel}", POLICY),
    ("mapping: {strategy: chunk}", POLICY),
    ("mapping: {page_size: 2M}", POLICY),
    ("targets: [{path: /srv/other}]", POLICY | {"targets_sha256"}),
    ("on_failure: [reboot]", POLICY),
    ("on_success: poweroff", POLICY),
    ("time_budget: 5min", POLICY),
    ("early: initramfs", POLICY),
    ("retention: {keep: 3}", set()),
    ("retention: {max_size: 1G}", set()),
    ("retention: {min_free: 1G}", POLICY),
    ("capture_kernel: {boot: dracut}", POLICY | {"boot"}),
    ("capture_kernel: {cpus: 2}", POLICY | LINE),
    ("capture_kernel: {append: [nomodeset]}", POLICY | LINE),
    ("capture_kernel: {remove: [console]}", POLICY | LINE),
    ("memmap: [{kind: reserved, start: 0x1000000, size: 64K}]", POLICY | LINE | {"targets_sha256"}),
    ("memmap: [{kind: acpi, start: 0x1000000, size: 64K}]", POLICY | LINE | {"targets_sha256"}),
    ("memmap: [{kind: map, range: system-ram}]", POLICY | LINE),
    ("memmap: [{kind: ram, start: 0x61000000, size: 1M}]", POLICY | LINE),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> FakeMachine:
    found = FakeMachine(tmp_path_factory.mktemp("machine"))
    folder = tree(found.base / "root")
    for path in ("kernel/sd_mod.ko", "kernel/ahci.ko", "updates/dkms/kdumpd_scan.ko"):
        dep = folder / "modules.dep"
        dep.write_text(f"{dep.read_text()}{path}:\n")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(module("version=1.0", f"vermagic={RELEASE} SMP "))
    return found


def seen(machine: FakeMachine, text: str) -> dict[str, object]:
    situation: Situation = gather(parse(text.encode()), Path(machine.base / "root"), machine.places)
    assert situation.blocked == ()
    assert situation.inputs is not None
    return {**asdict(situation.inputs), "command line": situation.command_line}


@pytest.mark.parametrize(("text", "effects"), CASES, ids=[text for text, _ in CASES])
def test_a_key_changes_what_it_says(machine: FakeMachine, text: str, effects: set[str]) -> None:
    default, changed = seen(machine, ""), seen(machine, text)
    assert {name for name in default if default[name] != changed[name]} == effects
