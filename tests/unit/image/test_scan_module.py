"""kdumpd's own module: taken where it is built for the kernel, and what is said where it is not."""

from __future__ import annotations

import lzma
import struct
import subprocess
from pathlib import Path

import pytest

from kdumpd.errors import ImageError
from kdumpd.host.modulefile import signer
from kdumpd.host.modules import ModuleIndex
from kdumpd.image import kernel, scan_module
from kdumpd.image.scan_module import ScanModule
from tests.unit.image.elf import module
from tests.unit.image.kerneltree import RELEASE, tree

VERMAGIC = f"vermagic={RELEASE} SMP preempt mod_unload modversions "
OTHER = "kernel/other.ko"
MAGIC = b"~Module signature appended~\n"
NONE = "this kernel has no kdumpd_scan module; install kdumpd-dkms"


def with_module(root: Path, *modinfo: str, path: str = "updates/dkms/kdumpd_scan.ko", signature: bytes = b"") -> Path:
    """A kernel tree whose modules say what they are built for, with a kdumpd_scan that says `modinfo`."""
    folder = tree(root)
    files = {OTHER: module(VERMAGIC), path: module(*modinfo) + signature}
    dep = folder / "modules.dep"
    dep.write_text("".join(f"{name}:\n" for name in files) + dep.read_text())
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(lzma.compress(data) if name.endswith(".xz") else data)
    return folder


def signed(pkcs7: bytes) -> bytes:
    return pkcs7 + struct.pack(">BBBBBxxxI", 0, 0, 2, 0, 0, len(pkcs7)) + MAGIC


def found(folder: Path, engine: str = "auto") -> ScanModule:
    return scan_module.find(ModuleIndex.read(folder), RELEASE, engine)


@pytest.mark.parametrize("engine", ["auto", "kernel"])
@pytest.mark.parametrize(
    "path",
    ["updates/dkms/kdumpd_scan.ko", "extra/kdumpd_scan.ko.xz", "updates/kdumpd-scan.ko", "kernel/kdumpd_scan.ko"],
)
def test_a_module_that_is_built_for_the_kernel_is_taken_wherever_it_lies(
    tmp_path: Path, path: str, engine: str
) -> None:
    folder = with_module(tmp_path, "version=1.0", VERMAGIC, path=path)
    assert found(folder, engine) == ScanModule(("kdumpd_scan",), "by the kernel: kdumpd_scan 1.0, unsigned")
    index = ModuleIndex.read(folder)
    (source, inside) = kernel.choose(index, RELEASE, ["virtio_blk", "kdumpd_scan"], tmp_path).modules[-1]
    assert source == folder / path
    assert inside == f"usr/lib/modules/{RELEASE}/{path.removesuffix('.xz')}"


def test_a_signature_without_a_readable_name_is_said_as_such(tmp_path: Path) -> None:
    folder = with_module(tmp_path, "version=1.0", VERMAGIC, signature=signed(b"what is this"))
    assert found(folder).said == "by the kernel: kdumpd_scan 1.0, signed"


def test_the_signer_is_the_issuer_that_the_signature_names(tmp_path: Path) -> None:
    key, certificate, text = (str(tmp_path / name) for name in ("key", "certificate", "text"))
    Path(text).write_bytes(b"a module")
    subject = ["-subj", "/O=Example/CN=DKMS module signing key"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(make, check=True, capture_output=True)
    sign = ["openssl", "cms", "-sign", "-binary", "-nocerts", "-noattr", "-signer", certificate, "-inkey", key]
    done = subprocess.run([*sign, "-outform", "DER", "-in", text], check=True, capture_output=True)
    assert signer(b"a module" + signed(done.stdout)) == "DKMS module signing key"
    folder = with_module(tmp_path / "tree", "version=1.0", VERMAGIC, signature=signed(done.stdout))
    assert found(folder).said == "by the kernel: kdumpd_scan 1.0, signed by DKMS module signing key"


@pytest.mark.parametrize("cut", [0, 1, 5, 6, 7, 8, 9, 30])
def test_a_cut_signature_names_nobody(cut: int) -> None:
    name = b"\x06\x03\x55\x04\x03\x0c\x04name"
    assert signer(b"a module" + signed(name[:cut])) == ("name" if cut > 10 else "")


@pytest.mark.parametrize("data", [b"", MAGIC, b"short" + MAGIC[:-1], b"1234567" + MAGIC])
def test_what_is_no_signature_is_nobodys(data: bytes) -> None:
    assert signer(data) is None


@pytest.mark.parametrize(
    "vermagic",
    [f"vermagic={RELEASE}1 SMP preempt mod_unload modversions ", f"vermagic={RELEASE} SMP mod_unload ", "license=GPL"],
)
def test_a_module_for_another_kernel_stays_out_and_the_build_goes_on(tmp_path: Path, vermagic: str) -> None:
    folder = with_module(tmp_path, "version=1.0", vermagic)
    names, said = found(folder)
    built_for = vermagic.removeprefix("vermagic=").strip() if "vermagic" in vermagic else "no kernel"
    assert names == ()
    assert said == (
        f"by the user engine: {folder}/updates/dkms/kdumpd_scan.ko is built for {built_for}, which is not "
        f"{RELEASE} SMP preempt mod_unload modversions; run `dkms install kdumpd/VERSION -k {RELEASE}`"
    )


def test_no_module_and_one_that_is_gone_or_broken_stay_out(tmp_path: Path) -> None:
    assert found(tree(tmp_path / "none")) == ScanModule((), f"by the user engine: {NONE}")
    gone = with_module(tmp_path / "gone", VERMAGIC)
    (gone / "updates/dkms/kdumpd_scan.ko").unlink()
    broken = with_module(tmp_path / "broken", VERMAGIC)
    (broken / "updates/dkms/kdumpd_scan.ko").write_bytes(b"cut")
    assert found(gone).said.startswith(f"by the user engine: {gone}/updates/dkms/kdumpd_scan.ko: No such file")
    assert "not a kernel module" in found(broken).said
    assert found(gone).names == found(broken).names == ()


def test_where_the_kernel_alone_may_scan_a_missing_module_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"^scan.engine: kernel cannot be obeyed: {NONE}, or write scan.engine: auto$"):
        found(tree(tmp_path), "kernel")


def test_the_user_engine_needs_no_module(tmp_path: Path) -> None:
    folder = with_module(tmp_path, "version=1.0", VERMAGIC)
    assert found(folder, "user") == ScanModule((), "by the user engine: scan.engine says so")
