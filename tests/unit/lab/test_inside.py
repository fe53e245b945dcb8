"""A run inside a capture kernel: what QEMU is given, and what becomes of a run that did not end well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdumpd.errors import RehearsalError
from kdumpd.rehearse.kernels import Kernel
from tests.lab import inside
from tests.lab.recipes import Recipe

KERNEL = Kernel("6.1", Path("vmlinuz"), Path("modules"), None)
NODES = 4


def test_memory_of_nodes_is_shared_out_and_takes_only_what_is_touched() -> None:
    arguments = inside.memory_arguments(Recipe("r", "k", memory=2048, nodes=NODES, processors=2))
    objects = [text for text in arguments if text.startswith("memory-backend-ram")]
    assert len(objects) == NODES
    assert all(text.endswith("size=536870912,reserve=off") for text in objects)
    assert "node,nodeid=1,memdev=ram1,cpus=1" in arguments
    assert "node,nodeid=3,memdev=ram3" in arguments


def test_memory_of_one_node_is_the_machines() -> None:
    assert inside.memory_arguments(Recipe("r", "k", memory=1024))[-2:] == ("-machine", "memory-backend=ram0")


def test_what_the_program_returned_and_wrote_comes_back(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"kept": 7}))
    (tmp_path / "dmesg").write_text("one\ntwo\n")
    done = inside.judged(("LAB: done",), tmp_path, KERNEL, tmp_path)
    assert done.result == {"kept": 7}
    assert done.dmesg == ("one", "two")


def test_program_without_a_result_is_an_error_with_the_consoles_words(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match="ValueError: of the program"):
        inside.judged(("ValueError: of the program", "LAB: done"), tmp_path, KERNEL, tmp_path)


def test_guest_that_could_not_do_as_told_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(RehearsalError, match=r"insmod kdumpd_scan\.ko"):
        inside.judged(("LAB: FAILED: insmod kdumpd_scan.ko",), tmp_path, KERNEL, tmp_path)


def test_files_of_a_disk_come_back_without_a_mount(tmp_path: Path) -> None:
    disk = inside.new_disk(tmp_path / "disk", 64)
    inside.read_disk(disk, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
