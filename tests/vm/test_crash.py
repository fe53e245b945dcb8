"""The crash utility, with the kernel's debug symbols, on our dumps and on makedumpfile's of the same crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.capture.save import SaveOptions, save_dump
from kdumpd.policy.model import Compression, CompressionKind, PageKind
from kdumpd.vmcore.vmcore import Vmcore
from tests.lab import peers
from tests.vm.conftest import CrashOf

COMMANDS = ("sys", "bt -a", "ps", "log", "kmem -i")
COMPLAINTS = ("WARNING", "warning", "invalid", "cannot", "error", "failed", "seek", "not found", "incomplete")

pytestmark = pytest.mark.timeout(900)


def complaints(said: str, dump: Path) -> set[str]:
    """The lines in which crash finds fault with a dump, without its name; the log's own lines (`[ 1.23] …`) are not."""
    lines = (line.replace(str(dump), "DUMP").strip() for line in said.splitlines() if not line.lstrip().startswith("["))
    return {line for line in lines if any(word in line for word in COMPLAINTS)}


@pytest.mark.matrix
@pytest.mark.parametrize(("kind", "level"), [("zstd", 31), ("zstd", 17), ("zstd", 0), ("zlib", 31), ("none", 31)])
@pytest.mark.parametrize("recipe", ["6.1", "6.12"])
def test_crash_says_of_our_dump_what_it_says_of_makedumpfiles(
    recipe: str, kind: str, level: int, crash_of: CrashOf, makedumpfile: peers.Program, tmp_path: Path
) -> None:
    crashed = crash_of(recipe)
    vmlinux = peers.debug_vmlinux(crashed.kernel, say=print)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with Vmcore.open(str(crashed.vmcore)) as core:
        save_dump(core, str(ours), SaveOptions(PageKind(level), Compression(CompressionKind(kind), 1)))
    makedumpfile.run("--message-level", "0", "-d", str(level), "-l", crashed.vmcore, theirs)

    about_ours = peers.ask_crash(vmlinux, ours, *COMMANDS)
    about_theirs = peers.ask_crash(vmlinux, theirs, *COMMANDS)
    assert "PANIC: " in about_ours
    assert "sysrq_handle_crash" in about_ours
    assert "TOTAL MEM" in about_ours
    assert complaints(about_ours, ours) <= complaints(about_theirs, theirs)
    assert (
        about_ours.replace(str(ours), "DUMP").splitlines()[-20:]
        == (about_theirs.replace(str(theirs), "DUMP").splitlines()[-20:])
    )
