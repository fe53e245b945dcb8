"""The packages: built twice with equal bytes, clean by their checkers, installed and removed in roots of their own.

What an installed kdumpd does on a machine that runs is for the tests on whole systems; here it is files and scripts.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd import __version__
from kdumpd.rehearse.packages import debian_mirrors, machine_sources
from tests.lab.chroot import Chroot
from tests.lab.system.package import deb

REPOSITORY = Path(__file__).parents[2]
#: Imports every module but those that run when they are imported, and the one that only `make docs` runs.
IMPORTS = """
import importlib, pkgutil, kdumpd
left_out = {"kdumpd.image.probe", "kdumpd.image.precompile", "kdumpd.cli.completion"}
names = [module.name for module in pkgutil.walk_packages(kdumpd.__path__, "kdumpd.")]
for name in sorted(set(names) - left_out):
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
PLACES = (
    "from kdumpd.image import dracut; from kdumpd.policy import schema; print(dracut.module_folder(), schema.title(()))"
)
WHAT_TO_DO = (
    "kdumpd: no memory is reserved for a crash kernel; add crashkernel=192M to GRUB_CMDLINE_LINUX_DEFAULT in "
    "/etc/default/grub, run update-grub and reboot\n"
)
KEPT = "kdumpd: dumps are kept, in /var/crash and wherever the policy sent them\n"
#: Debian 12's lintian wants a script for other init systems; 13's has no such tag, and an override of it is an error.
NEEDS_SYSTEMD = " package-supports-alternative-init-but-no-init.d-script "
#: As systemd's own (src/rpm/systemd-update-helper.in); Debian's systemd comes without it.
UPDATE_HELPER = """#!/bin/sh
command=$1
shift
case $command in
install-system-units) systemctl --no-reload preset "$@" ;;
remove-system-units) systemctl --no-reload disable "$@" ;;
mark-restart-system-units) echo "restart: $*" ;;
esac
"""

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`clone(name, version)`: a checkout of what is committed, as another version where one is named."""

    def made(name: str, version: str = __version__) -> Path:
        folder = tmp_path_factory.mktemp("checkout") / name
        git("clone", "--quiet", str(REPOSITORY), str(folder))
        if version != __version__:
            for place in (
                "pyproject.toml",
                "kdumpd/__init__.py",
                "packaging/debian/changelog",
                "packaging/rpm/kdumpd.spec",
            ):
                path = folder / place
                path.write_text(path.read_text().replace(__version__, version))
            who = ("-c", "user.name=a test", "-c", "user.email=test@localhost")
            git("-C", str(folder), *who, "commit", "--quiet", "--all", "--message", version)
        return folder

    return made


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages of what is committed."""
    folder = tmp_path_factory.mktemp("debs")
    for package in ("kdumpd", "kdumpd-dkms"):
        name, data = deb(package)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def bookworm(tmp_path: Path) -> Chroot:
    """Debian 12."""
    return Chroot("bookworm", tmp_path / "root")


@pytest.fixture(params=["bookworm", "trixie"])
def debian(tmp_path: Path, request: pytest.FixtureRequest) -> Chroot:
    """Debian 12 and 13."""
    return Chroot(request.param, tmp_path / "root")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def make(folder: Path, target: str, umask: int = 0o22, **environment: str) -> str:
    """What `make TARGET` printed; it has to succeed and to say nothing else."""
    done = subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=folder,
        env={**os.environ, **environment},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def contents(folder: Path, kind: str) -> dict[str, bytes]:
    """Package file name to bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob(f"*.{kind}"))}


def install(root: Chroot, package: Path, *options: str) -> str:
    """What apt and the package's scripts said."""
    return root.must("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *options, root.put(package))


def install_from_the_mirror(root: Chroot, *packages: str) -> None:
    """Those of the root's own Debian."""
    suite = root.must("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").strip()
    mirror, _ = debian_mirrors(machine_sources())
    (root.folder / "etc/apt/sources.list").write_text(f"deb {mirror.uri} {suite} main\n")
    root.must("apt-get", "update", "--quiet")
    root.must("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *packages)


def with_a_dump_and_an_image(root: Chroot) -> None:
    """What a machine has gathered after some time."""
    for place in ("var/crash/debian-20261124-120000/vmcore", "var/lib/kdumpd/6.1.0-1/capture.img"):
        (root.folder / place).parent.mkdir(parents=True)
        (root.folder / place).write_text("kept")
    (root.folder / "var/lib/kdumpd/crashes.json").write_text("{}")


def runs(root: Chroot) -> None:
    """The program as it is installed works with the distribution's packages alone."""
    assert root.must("kdumpd", "--version") == f"kdumpd {__version__}\n"
    assert root.run("kdumpd", "check").returncode == 0
    wrong = root.folder / "root/wrong.yaml"
    wrong.write_text("dump: {levl: 31}\n")
    done = root.run("kdumpd", "check", "/root/wrong.yaml")
    assert done.returncode == 1 and done.stderr.startswith("/root/wrong.yaml:1:8: dump.levl: ")
    assert int(root.must("python3", "-W", "error::SyntaxWarning", "-c", IMPORTS)) > 100
    assert root.must("python3", "-c", PLACES).startswith("/usr/lib/dracut/modules.d/99kdumpd ")
    assert not list(root.folder.glob("usr/local/lib/python3*/*-packages/*"))


def verify_units(root: Chroot) -> None:
    """systemd finds nothing to say about any unit."""
    committed = git("-C", str(REPOSITORY), "ls-tree", "--name-only", "HEAD", "units/").split()
    units = sorted(Path(path).name for path in committed if path.endswith(".service"))
    installed = root.folder / "usr/lib/systemd/system"
    assert units == sorted(path.name for path in installed.glob("kdumpd*.service"))
    assert (
        root.must("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{name}" for name in units)) == ""
    )


def test_a_deb_is_installed_removed_and_purged(bookworm: Chroot, debs: Path) -> None:
    """Without memory reserved it says what to do, once; dumps outlive all."""
    said = install(bookworm, debs / f"kdumpd_{__version__}_all.deb")
    assert re.findall(r"^kdumpd: .*\n", said, re.MULTILINE) == [WHAT_TO_DO]
    runs(bookworm)
    verify_units(bookworm)
    with_a_dump_and_an_image(bookworm)
    policy = bookworm.folder / "etc/kdumpd.yaml"
    policy.write_text("dump: {level: 1}\n")

    (bookworm.folder / "var/lib/kdumpd/6.1.0-1/early").mkdir()
    assert "Not updating initramfs" in bookworm.must("apt-get", "remove", "--yes", "kdumpd")
    assert policy.read_text() == "dump: {level: 1}\n"
    assert [path.name for path in (bookworm.folder / "var/lib/kdumpd").iterdir()] == ["crashes.json"]

    said = bookworm.must("apt-get", "purge", "--yes", "kdumpd")
    assert said.count(KEPT) == 1
    assert (bookworm.folder / "var/crash/debian-20261124-120000/vmcore").read_text() == "kept"
    assert bookworm.named("kdumpd") == [f"/root/kdumpd_{__version__}_all.deb"]


@pytest.mark.matrix
def test_a_deb_is_upgraded_and_reinstalled(debian: Chroot, clone: Build, debs: Path) -> None:
    """The build before gives way: an edited policy stays, a kernel's image too until the service builds its own."""
    install(debian, debs / f"kdumpd_{__version__}_all.deb")
    runs(debian)
    verify_units(debian)
    with_a_dump_and_an_image(debian)
    policy = debian.folder / "etc/kdumpd.yaml"
    policy.write_text("dump: {level: 1}\n")
    after = clone("after", f"{__version__}.1")
    make(after, "deb")
    said = install(debian, after / f"build/deb/kdumpd_{__version__}.1_all.deb")
    assert re.findall(r"^kdumpd: .*\n", said, re.MULTILINE) == [WHAT_TO_DO]
    assert debian.must("kdumpd", "--version") == f"kdumpd {__version__}.1\n"
    install(debian, after / f"build/deb/kdumpd_{__version__}.1_all.deb", "--reinstall")
    assert policy.read_text() == "dump: {level: 1}\n"
    assert (debian.folder / "var/lib/kdumpd/6.1.0-1/capture.img").exists()
    assert debian.must("dpkg", "--verify", "kdumpd").split() == ["??5??????", "c", "/etc/kdumpd.yaml"]
    assert debian.must("dpkg", "--audit") == ""


@pytest.mark.matrix
def test_a_deb_takes_the_place_of_kdump_tools(debian: Chroot, debs: Path) -> None:
    """apt removes it, its configuration stays, and one line says what that means."""
    install_from_the_mirror(debian, "kdump-tools")
    said = install(debian, debs / f"kdumpd_{__version__}_all.deb")
    assert "kdumpd: kdump-tools left its configuration, which does no harm here" in said
    state = debian.must("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}", "kdump-tools", "kdumpd")
    assert state == "rc ii "
    assert (debian.folder / "etc/default/grub.d/kdump-tools.cfg").exists()
    debian.must("apt-get", "purge", "--yes", "kdump-tools")
    assert "kdumpd: kdump-tools" not in install(debian, debs / f"kdumpd_{__version__}_all.deb", "--reinstall")


@pytest.mark.matrix
def test_the_modules_deb_builds_the_module_for_the_kernel_that_is_there(debian: Chroot, debs: Path) -> None:
    """By that Debian's DKMS, compiler and headers; upgraded it is built anew, removed it is gone."""
    install_from_the_mirror(debian, "dkms", "linux-headers-amd64")
    (headers,) = (debian.folder / "usr/src").glob("linux-headers-*-amd64")
    release = headers.name.removeprefix("linux-headers-")
    package = debs / f"kdumpd-dkms_{__version__}_all.deb"
    install(debian, package)
    debian.must("dkms", "autoinstall", "-k", release)
    (module,) = (debian.folder / "usr/lib/modules" / release / "updates/dkms").glob("kdumpd_scan.ko*")
    module.unlink()
    install(debian, package, "--reinstall")
    debian.must("dkms", "autoinstall", "-k", release)
    assert module.exists()
    debian.must("apt-get", "purge", "--yes", "kdumpd-dkms")
    assert not module.exists() and not (debian.folder / "var/lib/dkms/kdumpd-scan").exists()


@pytest.mark.matrix
def test_debs_have_equal_bytes_wherever_they_are_built_and_lintian_has_nothing_to_say(
    clone: Build,
) -> None:
    """Another folder, another time zone, another umask."""
    one, other = clone("one"), clone("other")
    make(one, "deb")
    make(other, "deb", umask=0o77, TZ="Asia/Tokyo", LANG="de_DE.UTF-8")
    debs = contents(one / "build/deb", "deb")
    assert debs == contents(other / "build/deb", "deb")
    assert list(debs) == [f"kdumpd-dkms_{__version__}_all.deb", f"kdumpd_{__version__}_all.deb"]
    changes = next((one / "build/deb").glob("*.changes"))
    checked = subprocess.run(
        ["lintian", "--display-info", "--allow-root", changes], capture_output=True, text=True, check=False
    )
    said = [line for line in checked.stdout.splitlines() if NEEDS_SYSTEMD not in line]
    assert (checked.returncode, said) == (0, [])


@pytest.mark.matrix
def test_the_modules_deb_holds_its_source_where_dkms_looks(debs: Path) -> None:
    """And nothing else but what Debian asks of each package."""
    package = debs / f"kdumpd-dkms_{__version__}_all.deb"
    listed = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True).stdout
    files = {line.split()[5].removeprefix(".") for line in listed.splitlines() if not line.startswith("d")}
    documents = {path for path in files if path.startswith("/usr/share/doc/kdumpd-dkms/")}
    assert files - documents == {f"/usr/src/kdumpd-scan-1/{path.name}" for path in (REPOSITORY / "kmod").iterdir()}
    depends = subprocess.run(["dpkg-deb", "--field", package, "Depends"], check=True, capture_output=True, text=True)
    assert depends.stdout.startswith("dkms")


@pytest.mark.matrix
def test_rpms_have_equal_bytes_wherever_they_are_built_and_rpmlint_has_nothing_to_say(
    clone: Build,
) -> None:
    """Those of each distribution that they are made for."""
    one, other = clone("one"), clone("other")
    make(one, "rpm")
    make(other, "rpm", umask=0o77, TZ="Asia/Tokyo", LANG="de_DE.UTF-8")
    rpms = contents(one / "build/rpm", "rpm")
    assert rpms == contents(other / "build/rpm", "rpm")
    assert {re.sub(r"-\d.*", "", name) for name in rpms} == {"kdumpd", "kdumpd-dkms"}
    configuration = REPOSITORY / "packaging/rpm/rpmlint.toml"
    checked = subprocess.run(
        ["rpmlint", "--config", configuration, *(one / "build/rpm").glob("*.rpm")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0 and " 0 errors, 0 warnings" in checked.stdout, checked.stdout


@pytest.mark.matrix
def test_an_rpm_is_installed_upgraded_and_erased(bookworm: Chroot, clone: Build) -> None:
    """In a root whose programs are Debian's: its Python is what the package is built for, and stands for Fedora's."""
    before, after = clone("before"), clone("after", f"{__version__}.1")
    for folder in (before, after):
        make(folder, "rpm", RPM_TARGETS="debian12=3.11")
    helper = bookworm.folder / "usr/lib/systemd/systemd-update-helper"
    helper.write_text(UPDATE_HELPER)
    helper.chmod(0o755)
    dkms = bookworm.folder / "usr/sbin/dkms"
    dkms.write_text('#!/bin/sh\necho "dkms $*" >>/root/dkms.log\n')
    dkms.chmod(0o755)

    said = rpm(bookworm, "--install", before / "build/rpm")
    assert "kdumpd: no memory is reserved for a crash kernel; run grubby " in said
    # Debian's Python looks in dist-packages alone.
    sitelib = "/usr/lib/python3.11/site-packages"
    environment = ("env", f"PYTHONPATH={sitelib}")
    assert bookworm.must(*environment, "kdumpd", "--version") == f"kdumpd {__version__}\n"
    bookworm.must(*environment, "kdumpd", "check")
    assert bookworm.must(*environment, "python3", "-c", PLACES).startswith("/usr/lib/dracut/modules.d/99kdumpd ")
    assert (bookworm.folder / f"{sitelib[1:]}/kdumpd/__pycache__").is_dir()
    verify_units(bookworm)
    assert bookworm.run("systemctl", "is-enabled", "kdumpd.service").stdout == "enabled\n"
    files = {line.split()[-1] for line in rpm(bookworm, "--query", "--list", "kdumpd").splitlines()}
    for wanted in (
        "/etc/kdumpd.yaml",
        "/usr/bin/kdumpd",
        "/usr/lib/dracut/modules.d/99kdumpd/module-setup.sh",
        "/usr/lib/kernel/install.d/60-kdumpd.install",
        "/usr/lib/systemd/system/kdumpd.service",
        "/usr/share/bash-completion/completions/kdumpd",
        "/usr/share/kdumpd/kdumpd.schema.json",
        "/usr/share/man/man5/kdumpd.yaml.5.gz",
        "/usr/share/man/man8/kdumpd.8.gz",
    ):
        assert wanted in files

    with_a_dump_and_an_image(bookworm)
    (bookworm.folder / "etc/kdumpd.yaml").write_text("dump: {level: 1}\n")
    said = rpm(bookworm, "--upgrade", after / "build/rpm")
    assert "restart: kdumpd.service" in said
    assert bookworm.must(*environment, "kdumpd", "--version") == f"kdumpd {__version__}.1\n"
    assert (bookworm.folder / "etc/kdumpd.yaml").read_text() == "dump: {level: 1}\n"

    assert KEPT in rpm(bookworm, "--erase", "kdumpd", "kdumpd-dkms")
    assert (bookworm.folder / "var/crash/debian-20261124-120000/vmcore").read_text() == "kept"
    assert bookworm.named("kdumpd") == ["/etc/kdumpd.yaml.rpmsave"]
    of = "-m kdumpd-scan -v 1"
    calls = (bookworm.folder / "root/dkms.log").read_text().splitlines()
    assert calls == [f"dkms add {of}", f"dkms install {of}"] * 2 + [f"dkms remove {of} --all"]


def rpm(root: Chroot, *command: str | Path) -> str:
    """What rpm said of the root; a folder stands for its packages.

    --nodeps: the root's programs are dpkg's, rpm's database knows none.
    """
    expanded = [path for word in command for path in (sorted(word.glob("*.rpm")) if isinstance(word, Path) else [word])]
    nodeps = [] if "--query" in command else ["--nodeps"]
    done = subprocess.run(
        ["rpm", "--root", root.folder, "--dbpath", "/var/lib/rpm", *nodeps, *expanded],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
