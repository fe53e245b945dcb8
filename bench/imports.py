"""What importing pyelftools would cost in the capture guest, beside the time to the first page.

A second initrd lays over the real image what `elftools.elf.elffile` needs and the image has not, precompiled as the
image's own modules are, and a runner that imports it first, says what that took, and goes on to the real capture. The
time to the first page is that of the same boot without the import.
"""

from __future__ import annotations

import json
import py_compile
import statistics
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import elftools

from bench import captures
from bench.captures import OURS
from kdumpd.host import program
from kdumpd.image import closure
from kdumpd.image.interpreter import DYNLOAD, LIBRARY
from kdumpd.policy.model import Boot
from kdumpd.rehearse import kernels
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import OverlayFile, Scenario

ROUNDS = 3
KERNEL = "linux-image-amd64=6.1"
AIM = 0.1  # of the time to the first page
MODULE = "elftools.elf.elffile"
_RUNNER = "kdumpd.capture.runner"
_REAL = "kdumpd.capture.real_runner"

# Stands in the runner's place, which goes on under another name.
_FIRST = f"""
import time

def capture(machine, console):
    before, memory = time.perf_counter(), console.sample()
    import {MODULE}
    took = time.perf_counter() - before
    from {_REAL} import capture as real
    console.say("import", f"pyelftools {{took:.4f}} s {{memory - console.sample()}} bytes")
    real(machine, console)
"""


class Cost(NamedTuple):
    """Seconds of the import, bytes of memory it took, and seconds to the dump's begin without it."""

    seconds: float
    memory: int
    first_page: float


def needed(of: closure.Program) -> dict[str, closure.Module]:
    """By name, every module that the import loads and the image does not carry."""
    carried = {module.name for module in closure.closure(of)}
    folders = f"{Path(elftools.__file__).parent.parent}"
    probe = Path(closure.__file__).with_name("probe.py")
    listed = program.run([str(of.interpreter), "-ISB", str(probe), folders, MODULE, ""])
    modules = (closure.Module(*fields) for fields in json.loads(listed.output))
    return {module.name: module for module in modules if module.name not in carried and module.file}


def overlay(of: closure.Program) -> tuple[OverlayFile, ...]:
    """The files to lay over the image."""
    files = []
    with tempfile.TemporaryDirectory(prefix="kdumpd-bench-") as folder:
        for name, module in needed(of).items():
            if module.kind == "extension":
                files.append(OverlayFile(f"/{DYNLOAD}/{Path(module.file).name}", Path(module.file).read_bytes()))
            else:
                package = "/__init__" if Path(module.file).name == "__init__.py" else ""
                place = f"/{LIBRARY}/{name.replace('.', '/')}{package}.pyc"
                files.append(OverlayFile(place, _compiled(Path(module.file), Path(folder))))
        first = Path(folder, "first.py")
        first.write_text(_FIRST)
        for name, source in ((_RUNNER, first), (_REAL, of.package / "capture" / "runner.py")):
            files.append(OverlayFile(f"/{LIBRARY}/{name.replace('.', '/')}.pyc", _compiled(source, Path(folder))))
    return tuple(files)


def _compiled(source: Path, folder: Path) -> bytes:
    target = folder / "compiled.pyc"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), cfile=str(target), doraise=True, invalidation_mode=mode)
    return target.read_bytes()


def measure(scenario: Scenario) -> Outcome:
    """One capture that was verified."""
    with captures.rehearsed(scenario) as outcome:
        captures.must_be_verified(outcome)
        return outcome


def cost(plain: Outcome, brought: Outcome) -> Cost:
    """From a capture without and one with the import."""
    said = next(event.text.split() for event in brought.events if event.stage == "import")
    begun = captures.times(captures.console_of(plain), OURS).begun
    return Cost(float(said[1]), int(said[3]), begun)


def main() -> None:
    """Rounds of both, in turn."""
    of = closure.running()
    kernel = kernels.find(KERNEL, say=print)
    files = overlay(of)
    plain = Scenario(captures.policy(Boot.DIRECT), kernel, crashkernel="192M")
    brought = Scenario(captures.policy(Boot.DIRECT), kernel, crashkernel="192M", overlay=files)
    costs = []
    for number in range(ROUNDS):
        costs.append(cost(measure(plain), measure(brought)))
        print(f"round {number + 1}: {costs[-1]}", flush=True)
    seconds = statistics.median(one.seconds for one in costs)
    share = statistics.median(one.seconds / one.first_page for one in costs)
    memory = statistics.median(one.memory for one in costs)
    size = sum(len(file.content) for file in files)
    print(f"\n### pyelftools {metadata.version('pyelftools')} in the capture guest, medians of {ROUNDS} rounds\n")
    print("| import, s | dump begun without it, s | share | memory, MB | files | bytes in the image |")
    print("|---|---|---|---|---|---|")
    first = statistics.median(one.first_page for one in costs)
    print(f"| {seconds:.3f} | {first:.2f} | {share:.3f} | {memory / 1e6:.1f} | {len(files) - 2} | {size:,} |\n")
    verdict = "over" if share > AIM else "not over"
    print(f"The import costs {verdict} {AIM:.0%} of the time to the first page.\n")


if __name__ == "__main__":
    main()
