"""`kdumpd plan` and `kdumpd apply` arm a real kernel, and the crash that follows is saved by what they loaded."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd.cli.main import main
from kdumpd.host import program
from kdumpd.rehearse import disks
from tests.vm.life import HOSTNAME, MIRROR, PLAIN, VOLUME, Layout, Life, Plot, live

pytestmark = pytest.mark.timeout(900)

SCRIPT = """\
kdumpd plan
kdumpd apply
kdumpd plan
echo "== loaded $(cat /sys/kernel/kexec_crash_loaded)"
echo 'dump: {level: 17}' > /etc/kdumpd.yaml
kdumpd plan
echo > /etc/kdumpd.yaml
kexec -p -u
kdumpd plan
kdumpd apply
"""
VOLUME_START = 1 << 20  # the byte of its disk where the layout's volume begins

LiveOnce = Callable[[Layout, bool], Life]


@pytest.fixture(scope="module")
def live_once(tmp_path_factory: pytest.TempPathFactory) -> LiveOnce:
    """A machine's life by its layout: several tests look at one."""
    lives: dict[tuple[Layout, bool], Life] = {}

    def once(layout: Layout, built: bool) -> Life:
        if (layout, built) not in lives:
            lives[layout, built] = live(tmp_path_factory.mktemp("armed"), layout, Plot(SCRIPT, built=built))
        return lives[layout, built]

    return once


def file_system(life: Life, layout: Layout, folder: Path) -> Path:
    """The file system that /var/crash was, as a file of its own."""
    if layout is not VOLUME:
        return life.disks[0]
    volume = folder / "volume"
    command = [program.require("dd", "coreutils"), f"if={life.disks[0]}", f"of={volume}", "bs=1M", "conv=sparse"]
    subprocess.run([*command, "iflag=skip_bytes", f"skip={VOLUME_START}", "status=none"], check=True)
    return volume


CASES = pytest.mark.parametrize(
    ("layout", "built"),
    [
        pytest.param(PLAIN, True, id="disk"),
        pytest.param(PLAIN, False, id="disk-built-there", marks=pytest.mark.matrix),
        pytest.param(VOLUME, True, id="lvm", marks=pytest.mark.matrix),
        pytest.param(MIRROR, True, id="raid", marks=pytest.mark.matrix),
    ],
)


@CASES
def test_plan_says_what_apply_then_does_and_after_it_nothing_is_to_do(
    live_once: LiveOnce, layout: Layout, built: bool
) -> None:
    life = live_once(layout, built)
    release = life.kernel.release
    plan, apply, done = life.said("plan"), life.said("apply"), life.said("plan", 1)
    image = f"/var/lib/kdumpd/{release}/capture.img"
    if built:
        assert plan[0] == f"load kernel {release} and {image}"
    else:
        assert plan[0] == f"build {image} ({layout.boot}: {layout.reason})"
        assert f"    because there is no image for kernel {release}" in plan
    assert "    because no crash kernel is loaded" in plan
    assert plan[-1] == "== exit 3"
    assert apply[: len(plan) - 1] == plan[:-1]
    proof = "the kernel confirms it, and kernel, image and command line lie in the reservation"
    assert apply[-3] == f"loaded kernel {release} by kexec_file_load; {proof}"
    assert apply[-2].startswith("target /var/crash: written and read back, ")
    assert apply[-1] == "== exit 0"
    assert "== loaded 1" in life.console
    assert done == [f"nothing to do: the image for kernel {release} is up to date and loaded", "== exit 0"]


@CASES
def test_what_was_unloaded_is_loaded_again_from_the_same_image(
    live_once: LiveOnce, layout: Layout, built: bool
) -> None:
    life = live_once(layout, built)
    plan, apply = life.said("plan", 3), life.said("apply", 1)
    assert plan[0].startswith("load kernel ")
    assert plan[1] == "    because another program unloaded the crash kernel"
    assert plan[-1] == "== exit 3"
    assert not any(line.startswith("built ") for line in apply)
    assert apply[-1] == "== exit 0"


@CASES
def test_a_changed_policy_calls_for_another_image(live_once: LiveOnce, layout: Layout, built: bool) -> None:
    plan = live_once(layout, built).said("plan", 2)
    assert plan[0].endswith(f"({layout.boot}: {layout.reason})")
    assert "    because the policy changed: dump.level 31 to 17 (/etc/kdumpd.yaml, line 1)" in plan
    assert "    because the image is built anew" in plan
    assert plan[-1] == "== exit 3"


@CASES
def test_the_crash_is_saved_where_the_policy_says(
    live_once: LiveOnce, layout: Layout, built: bool, tmp_path: Path
) -> None:
    life = live_once(layout, built)
    disk = file_system(life, layout, tmp_path)
    saved = [path for path in disks.take_out(disk, "/", tmp_path / "saved") if path.is_dir()]
    assert [path.name.partition("-")[0] for path in saved] == [HOSTNAME], life.console[-30:]
    assert main(["verify", str(saved[0] / "vmcore")]) == 0
    assert "sysrq triggered crash" in (saved[0] / "dmesg.txt").read_text()
    assert disks.is_clean(disk)
