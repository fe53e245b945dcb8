"""The hooks of a new or removed kernel build and remove its image, and never fail that kernel's own installation.

The hooks run as they are but for the folders that they name, which are below tmp_path.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[3] / "packaging/hooks"
RELEASE = "6.1.0-1-amd64"


class Machine:
    """A root with the hooks installed; `kdumpd` there is the script it is given."""

    def __init__(self, root: Path, kdumpd: str = 'echo "$@" >>{root}/called', systemd: bool = True) -> None:
        self.root = root
        self.image = root / "var/lib/kdumpd" / RELEASE / "capture.img"
        self.image.parent.mkdir(parents=True)
        self.image.touch()
        if systemd:
            (root / "run/systemd/system").mkdir(parents=True)
        self.put("usr/bin/kdumpd", "#!/bin/sh\n" + kdumpd.format(root=root))
        for name, place in (
            ("60-kdumpd.install", "usr/lib/kernel/install.d/60-kdumpd.install"),
            ("postinst", "etc/kernel/postinst.d/zz-kdumpd"),
            ("postrm", "etc/kernel/postrm.d/zz-kdumpd"),
        ):
            text = (HOOKS / name).read_text()
            for folder in ("/run/systemd", "/usr/bin/kdumpd", "/usr/lib/kernel", "/var/lib/kdumpd"):
                text = text.replace(folder, f"{root}{folder}")
            self.put(place, text)

    def put(self, place: str, text: str) -> None:
        """An executable file."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, place: str, *arguments: str, params: str | None = None) -> tuple[int, str]:
        """Exit code and all that a hook said."""
        environment = {**os.environ, **({} if params is None else {"DEB_MAINT_PARAMS": params})}
        done = subprocess.run([self.root / place, *arguments], env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def postinst(self, params: str | None = None) -> tuple[int, str]:
        """As the package of a kernel calls it."""
        return self.run("etc/kernel/postinst.d/zz-kdumpd", RELEASE, f"/boot/vmlinuz-{RELEASE}", params=params)

    def postrm(self, params: str | None = None) -> tuple[int, str]:
        """As the package of a kernel calls it."""
        return self.run("etc/kernel/postrm.d/zz-kdumpd", RELEASE, f"/boot/vmlinuz-{RELEASE}", params=params)

    @property
    def called(self) -> str:
        """What kdumpd was called with, a line for each time."""
        path = self.root / "called"
        return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("params", [None, "configure", "configure 6.1.192-1", "'configure' '6.1.192-1'"])
def test_a_new_kernel_gets_its_image_and_nothing_is_said(tmp_path: Path, params: str | None) -> None:
    """Both forms in which Debian's kernels hand their script's arguments on."""
    machine = Machine(tmp_path)
    assert machine.postinst(params) == (0, "")
    assert machine.called == f"apply --kernel {RELEASE}\n"


@pytest.mark.parametrize("params", ["abort-upgrade", "triggered", "'abort-remove'"])
def test_a_kernel_that_gives_up_a_step_is_not_built_for(tmp_path: Path, params: str) -> None:
    """Its package calls the hooks all the same."""
    machine = Machine(tmp_path)
    assert machine.postinst(params) == (0, "")
    assert machine.called == ""


def test_an_image_that_cannot_be_built_is_one_line_and_no_failure(tmp_path: Path) -> None:
    """The reason is the last that kdumpd says."""
    machine = Machine(tmp_path, kdumpd="echo built nothing; echo 'kdumpd apply: no room' >&2; exit 1")
    assert machine.postinst() == (
        0,
        f"kdumpd: no capture image for {RELEASE} yet: kdumpd apply: no room; "
        "kdumpd.service builds it when that kernel runs\n",
    )


def test_a_root_made_for_another_machine_gets_no_image(tmp_path: Path) -> None:
    """Its disks and drivers are not here."""
    machine = Machine(tmp_path, systemd=False)
    assert machine.postinst() == (0, "")
    assert machine.called == ""


@pytest.mark.parametrize("params", [None, "remove", "purge", "'remove'", "'purge'"])
def test_a_removed_kernels_image_goes(tmp_path: Path, params: str | None) -> None:
    """With its folder, and nothing beside it."""
    machine = Machine(tmp_path)
    other = machine.image.parent.parent / "6.12.0-1-amd64"
    other.mkdir()
    assert machine.postrm(params) == (0, "")
    assert not machine.image.parent.exists() and other.exists()


def test_an_upgraded_kernel_keeps_its_image(tmp_path: Path) -> None:
    """Until the new one of the same release has its own."""
    machine = Machine(tmp_path)
    assert machine.postrm("upgrade 6.1.192-2") == (0, "")
    assert machine.image.exists()


@pytest.mark.parametrize("release", ["", ".", "..", "../../etc", "/etc", "6.1/../..", ".hidden"])
@pytest.mark.parametrize("command", ["add", "remove"])
def test_what_is_no_release_is_left_alone(tmp_path: Path, command: str, release: str) -> None:
    """A hook that is called by mistake takes no folder away."""
    machine = Machine(tmp_path)
    assert machine.run("usr/lib/kernel/install.d/60-kdumpd.install", command, release) == (0, "")
    assert machine.called == "" and machine.image.exists()


@pytest.mark.parametrize("command", ["inspect", ""])
def test_kernel_installs_other_commands_are_none_of_its_business(tmp_path: Path, command: str) -> None:
    """It may learn more of them."""
    machine = Machine(tmp_path)
    assert machine.run("usr/lib/kernel/install.d/60-kdumpd.install", command, RELEASE) == (0, "")
    assert machine.called == "" and machine.image.exists()


def test_hooks_that_outlive_their_package_do_nothing(tmp_path: Path) -> None:
    """They are configuration, so dpkg leaves them until the purge."""
    machine = Machine(tmp_path)
    (tmp_path / "usr/lib/kernel/install.d/60-kdumpd.install").unlink()
    assert machine.postinst() == machine.postrm() == (0, "")
    assert machine.called == "" and machine.image.exists()
