"""The page-scan module is loaded, or one line says why not and who does its work."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from kdumpd.capture import scanner
from kdumpd.policy.model import EngineChoice
from tests.unit.capture.test_steps import steps

MODULES = ("/m/virtio.ko", "/m/updates/kdumpd-scan.ko")


def refusing(number: int) -> Callable[[str, str], None]:
    def load(path: str, parameters: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return load


@pytest.mark.parametrize("engine", [EngineChoice.AUTO, EngineChoice.KERNEL])
def test_the_module_gets_its_parameters_from_the_command_line(engine: EngineChoice) -> None:
    under = steps()
    words = "quiet kdumpd_scan.map=0x1000-0x2000,0x8000-0x9000 virtio.x=1"
    heard: list[str] = []

    def load(path: str, parameters: str) -> None:
        os.write(writing, f"{path} {parameters}".encode())

    reading, writing = os.pipe()
    scanner.load(under, load, MODULES, words, engine)
    heard.append(os.read(reading, 1000).decode())
    assert heard == ["/m/updates/kdumpd-scan.ko map=0x1000-0x2000,0x8000-0x9000"]
    assert under.console.lines[-1].endswith("kdumpd_scan loaded with map=0x1000-0x2000,0x8000-0x9000")
    assert under.incidents == under.notes == []


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EKEYREJECTED, "not signed by a key that this kernel trusts (EKEYREJECTED)"),
        (errno.EPERM, "locked down and takes signed modules alone (EPERM)"),
        (errno.ENOEXEC, "made for another kernel (ENOEXEC)"),
        (errno.EIO, "Input/output error (EIO)"),
    ],
)
def test_a_refusal_is_a_note_under_auto_and_an_incident_where_the_policy_names_the_kernel_engine(
    number: int, why: str
) -> None:
    under = steps()
    scanner.load(under, refusing(number), MODULES, "", EngineChoice.AUTO)
    (note,) = under.notes
    assert why in note
    assert note.endswith("; the user engine chooses the pages")
    assert under.incidents == []
    scanner.load(under, refusing(number), MODULES, "", EngineChoice.KERNEL)
    assert under.incidents == [note]


def test_a_module_that_is_there_already_is_loaded() -> None:
    under = steps()
    scanner.load(under, refusing(errno.EEXIST), MODULES, "", EngineChoice.KERNEL)
    assert under.console.lines[-1].endswith("kdumpd_scan loaded")
    assert under.incidents == under.notes == []


def test_a_module_that_kills_its_loader_is_an_incident_and_no_more() -> None:
    under = steps()
    scanner.load(under, lambda path, parameters: os._exit(9), MODULES, "", EngineChoice.AUTO)
    (incident,) = under.incidents
    assert "ended with status 9" in incident


@pytest.mark.parametrize(("modules", "engine"), [(MODULES, EngineChoice.USER), (MODULES[:1], EngineChoice.AUTO)])
def test_nothing_is_loaded_that_the_policy_or_the_image_does_not_have(
    modules: tuple[str, ...], engine: EngineChoice
) -> None:
    under = steps()
    scanner.load(under, refusing(errno.EIO), modules, "", engine)
    assert under.timings == []
