"""The package on a machine that runs: in the place of kdump-tools, upgraded, removed, installed again, purged.

A whole Debian, armed at each step or rightly not. What packages do to files is in test_packages.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kdumpd import __version__
from tests.lab.system import System
from tests.lab.system.package import deb
from tests.vm.watching import ARMING_SECONDS, armed_unit, journal, wait_armed, wait_until

pytestmark = [pytest.mark.timeout(3600), pytest.mark.matrix]

REPOSITORY = Path(__file__).parents[2]
LOADED = "cat /sys/kernel/kexec_crash_loaded"
DUMP = "/var/crash/debian-20261124-120000"
KEPT = "kdumpd: dumps are kept, in /var/crash and wherever the policy sent them"


def next_build(folder: Path) -> Path:
    """The DEB of what is committed, as the version after it."""
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder], check=True, capture_output=True)
    for place in ("pyproject.toml", "kdumpd/__init__.py", "packaging/debian/changelog"):
        path = folder / place
        path.write_text(path.read_text().replace(__version__, f"{__version__}.1"))
    who = ("-c", "user.name=a test", "-c", "user.email=test@localhost")
    subprocess.run(["git", "-C", folder, *who, "commit", "--quiet", "--all", "--message", "next"], check=True)
    subprocess.run([folder / "packaging/build-deb"], check=True, capture_output=True)
    return next((folder / "build/deb").glob("kdumpd_*.deb"))


def image(system: System) -> str:
    """The digest of the running kernel's image, empty where there is none."""
    return system.run("sha256sum /var/lib/kdumpd/$(uname -r)/capture.img 2>/dev/null").out.partition(" ")[0]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"], ids=["Debian 12", "Debian 13"])
def test_the_package_takes_over_is_upgraded_and_leaves(suite: str, tmp_path: Path) -> None:
    """kdump-tools armed the machine when it booted, and what it reserved is enough."""
    name, package = deb()
    after = next_build(tmp_path / "next")
    with System.boot(tmp_path / "system", suite, packages=("kdump-tools",)) as system:
        system.must("update-grub", 300)
        system.put(f"/root/{name}", package)
        system.put(f"/root/{after.name}", after.read_bytes())
        system.reboot(900)
        system.run("systemctl start kdump-tools", 600)
        assert system.must(LOADED) == "1\n"

        installed = system.run(f"apt-get install --yes ./{name}", 900)
        assert installed.code == 0
        assert "kdumpd: kdump-tools left its configuration, which does no harm here" in installed.said
        wait_armed(system, ARMING_SECONDS)
        assert system.must(LOADED) == "1\n"
        first = image(system)
        assert first

        system.must(f"mkdir -p {DUMP} && echo kept >{DUMP}/vmcore")
        upgraded = system.run(f"apt-get install --yes ./{after.name}", 900)
        assert upgraded.code == 0
        assert system.must(LOADED) == "1\n"
        wait_until(lambda: image(system) not in ("", first), ARMING_SECONDS, "the image is another kdumpd's")
        wait_armed(system, ARMING_SECONDS)
        assert journal(system, "built")

        removed = system.run("apt-get remove --yes kdumpd", 300)
        assert removed.code == 0
        assert (system.must(LOADED), image(system), armed_unit(system)) == ("0\n", "", "inactive")
        assert "kdumpd: " not in removed.said

        system.must(f"apt-get install --yes ./{after.name}", 900)
        wait_armed(system, ARMING_SECONDS)

        purged = system.run("apt-get purge --yes kdumpd", 300)
        assert KEPT in purged.said
        assert system.must(LOADED) == "0\n"
        assert system.must(f"cat {DUMP}/vmcore") == "kept\n"
        assert system.must("find /etc /usr /var/lib /run -name '*kdumpd*' -not -path '*/dpkg/*'") == ""
