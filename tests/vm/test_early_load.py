"""Early loading on a real kernel: the record of an apply loads again, from Python and from the initramfs' script."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kdumpd.cli.main import main
from kdumpd.rehearse import disks
from tests.vm.installed import REPOSITORY
from tests.vm.life import HOSTNAME, PLAIN, Life, Plot, live

pytestmark = pytest.mark.timeout(900)

#: apply loads and leaves the record; what an unloaded crash kernel is then loaded by is early loading alone.
SCRIPT = f"""\
early() {{
    echo "== kdumpd early"
    {sys.executable} -m kdumpd.loader.early
    echo "== exit $?"
}}
kdumpd apply
kexec -p -u
rm /var/lib/kdumpd/loaded.json
early
kdumpd plan
kexec -p -u
rm /var/lib/kdumpd/loaded.json
state=/var/lib/kdumpd/$(uname -r)
carried=/usr/lib/kdumpd/early
mkdir -p $carried
cp $state/capture.img $state/load.json $carried
cp /boot/vmlinuz-$(uname -r) $carried/vmlinuz
cat /sys/kernel/kexec_crash_size > $carried/reservation
{sys.executable} -c 'import json, sys; print(json.load(sys.stdin)["command_line"])' \\
    < $state/load.json > $carried/command-line
. {REPOSITORY}/dracut/98kdumpd-early/load.sh
echo "== loaded $(cat /sys/kernel/kexec_crash_loaded)"
early
kdumpd plan
"""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return live(tmp_path_factory.mktemp("early"), PLAIN, Plot(SCRIPT))


def test_what_apply_loaded_is_loaded_again_and_plan_has_nothing_to_do(life: Life) -> None:
    release = life.kernel.release
    image = f"/var/lib/kdumpd/{release}/capture.img"
    assert life.said("apply")[-1] == "== exit 0"
    assert life.said("early") == [f"loaded /boot/vmlinuz-{release} with {image}", "== exit 0"]
    assert life.said("plan") == [
        f"nothing to do: the image for kernel {release} is up to date and loaded",
        "== exit 0",
    ]


def test_what_the_initramfs_loads_is_put_on_record(life: Life) -> None:
    release = life.kernel.release
    assert "== loaded 1" in life.console
    assert life.said("early", 1) == [
        f"the initramfs has loaded /boot/vmlinuz-{release}; that is on record now",
        "== exit 0",
    ]
    assert life.said("plan", 1)[-1] == "== exit 0"


def test_the_crash_that_follows_is_saved_by_what_the_initramfs_loaded(life: Life, tmp_path: Path) -> None:
    saved = [path for path in disks.take_out(life.disks[0], "/", tmp_path / "saved") if path.is_dir()]
    assert [path.name.partition("-")[0] for path in saved] == [HOSTNAME], life.console[-30:]
    assert main(["verify", str(saved[0] / "vmcore")]) == 0
