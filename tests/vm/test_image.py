"""Whole images, built by the real dracut from a small kernel tree."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from kdumpd.errors import HostError, ImageError
from kdumpd.image import archive, build, manifest, settings
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import default, parse
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.unit.image.kerneltree import RELEASE
from tests.unit.image.kerneltree import tree as kernel_tree
from tests.unit.image.test_scan_module import signed, with_module

TOPS = "bin dev etc init lib lib64 proc root run sbin sys tmp usr var"


def entries(image: Path) -> dict[str, archive.Entry]:
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(image.read_bytes())
    return {entry.name: entry for entry in archive.unpack(unpacked, str(image))}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> BuildImage:
    root = tmp_path_factory.mktemp("kernel")
    return BuildImage(
        release=RELEASE,
        modules=kernel_tree(root),
        policy_json=to_json(default()),
        targets=(CaptureTarget("UUID=1", "ext4", "/var/crash", "/var/crash", ("virtio_blk",)),),
        output=root / "var/lib/kdumpd" / RELEASE / "capture.img",
        hostname="h",
        firmware=root / "lib/firmware",
    )


@pytest.fixture(scope="module")
def built(step: BuildImage) -> build.BuiltImage:
    return build.build(step)


def test_equal_inputs_give_equal_bytes(built: build.BuiltImage, step: BuildImage, tmp_path: Path) -> None:
    again = build.build(replace(step, output=tmp_path / "elsewhere.img"))
    assert again.path.read_bytes() == built.path.read_bytes()
    assert again.manifest == built.manifest


def test_an_image_and_what_lies_beside_it_are_the_owners_alone(built: build.BuiltImage) -> None:
    names = sorted(path.name for path in built.path.parent.iterdir())
    assert names == ["capture.img", "capture.manifest.json", "capture.policy.json"]
    assert {path.stat().st_mode & 0o777 for path in built.path.parent.iterdir()} == {0o600}


def test_the_manifest_in_the_image_describes_every_file_of_it(built: build.BuiltImage) -> None:
    found = entries(built.path)
    inside = manifest.from_json(found.pop(manifest.MANIFEST).data.decode(), "inside")
    files = {f"/{name}": len(entry.data) for name, entry in found.items() if entry.is_file}
    assert {path: size for path, (size, _) in inside.files.items()} == files
    outside = replace(built.manifest, image_sha256="", inputs=replace(built.manifest.inputs, sources={}))
    assert outside == inside
    assert built.manifest.image_sha256 == manifest.sha256(built.path.read_bytes())
    assert sum(inside.parts.values()) == sum(files.values())
    assert inside.inputs.drivers == ("virtio", "virtio_blk", "crc32c_generic", "jbd2", "ext4")


def test_only_what_a_capture_touches_is_in_it(built: build.BuiltImage) -> None:
    found = entries(built.path)
    programs = {name for name, entry in found.items() if entry.is_file and entry.mode & 0o111 and ".so" not in name}
    assert programs == {"usr/lib/kdumpd/bin/python3", "usr/lib/kdumpd/capture"}
    assert found["init"].data == b"usr/lib/kdumpd/capture"
    assert not [name for name in found if name.endswith((".py", ".conf")) or "__pycache__" in name]
    tops = {name.partition("/")[0] for name in found}
    assert tops <= set(TOPS.split())
    order = json.loads(found[settings.MODULES].data)["modules"]
    assert [Path(path).name for path in order][-1] == "ext4.ko"
    assert all(path.lstrip("/") in found for path in order)


def test_the_kernel_needs_a_small_window_to_unpack_it(built: build.BuiltImage) -> None:
    assert zstandard.get_frame_parameters(built.path.read_bytes()).window_size <= 128 << 10


def test_the_runner_starts_in_the_unpacked_image_by_its_own_first_line(built: build.BuiltImage, tmp_path: Path) -> None:
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(built.path.read_bytes())
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=tmp_path, input=plain, check=True)
    # No /proc/vmcore there: the runner says so, which proves interpreter, libraries and its own modules.
    run = subprocess.run(["/usr/sbin/chroot", tmp_path, "/init"], env={}, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("kdumpd capture: this is no capture kernel")
    script = "import kdumpd.capture.runner, zstandard, ctypes; zstandard.compress(b'x')"
    subprocess.run(
        ["/usr/sbin/chroot", tmp_path, "/usr/lib/kdumpd/bin/python3", "-ISB", "-c", script], env={}, check=True
    )


@pytest.mark.parametrize("boot", ["direct", "dracut"])
def test_the_module_of_its_kernel_goes_in_with_its_signature_and_is_loaded_last(
    step: BuildImage, tmp_path: Path, boot: str
) -> None:
    folder = with_module(tmp_path, "version=1", f"vermagic={RELEASE} SMP preempt", signature=signed(b"PKCS#7"))
    # Another module says what this kernel's are built for.
    (folder / "kernel/other.ko").write_bytes((folder / "updates/dkms/kdumpd_scan.ko").read_bytes())
    image = build.build(replace(step, modules=folder, boot=boot, output=tmp_path / "image.img"))
    found = entries(image.path)
    inside = f"usr/lib/modules/{RELEASE}/updates/dkms/kdumpd_scan.ko"
    assert found[inside].data == (folder / "updates/dkms/kdumpd_scan.ko").read_bytes()
    assert json.loads(found[settings.MODULES].data)["modules"][-1] == f"/{inside}"
    assert image.manifest.inputs.scan == "by the kernel: kdumpd_scan 1, signed"
    assert image.manifest.inputs.drivers == ("virtio", "virtio_blk", "crc32c_generic", "jbd2", "ext4")


def test_a_changed_policy_changes_its_own_file_and_the_manifest_alone(
    built: build.BuiltImage, step: BuildImage, tmp_path: Path
) -> None:
    policy = to_json(parse(b"dump: {level: 17}"))
    other = build.build(replace(step, policy_json=policy, output=tmp_path / "other.img"))
    old, new = entries(built.path), entries(other.path)
    assert {name for name in {*old, *new} if old.get(name) != new.get(name)} == {settings.POLICY, manifest.MANIFEST}
    assert replace(built.manifest.inputs, policy_sha256="") == replace(other.manifest.inputs, policy_sha256="")


def test_a_build_that_fails_leaves_the_old_image(built: build.BuiltImage, step: BuildImage) -> None:
    before = {path.name: path.read_bytes() for path in built.path.parent.iterdir()}
    with pytest.raises(ImageError, match="does not fit the reservation of 64 MiB"):
        build.build(replace(step, policy_json=to_json(parse(b"dump: {level: 1}")), reservation=64 << 20))
    with pytest.raises(HostError, match="no module nvme"):
        build.build(replace(step, drivers=("nvme",)))
    with pytest.raises(ImageError, match=r"dracut: failed with exit code 1: .*'nosuch' cannot be found"):
        build.build(replace(step, boot="dracut", dracut_modules=("nosuch",)))
    assert {path.name: path.read_bytes() for path in built.path.parent.iterdir()} == before


def test_the_dracut_way_has_systemd_and_the_runner_as_a_unit(step: BuildImage, tmp_path: Path) -> None:
    image = build.build(replace(step, boot="dracut", output=tmp_path / "dracut.img"))
    found = entries(image.path)
    assert found["init"].data.endswith(b"systemd")
    unit = found["usr/lib/systemd/system/kdumpd-capture.service"].data.decode()
    for line in ("DefaultDependencies=no", "Before=initrd.target initrd-cleanup.service initrd-parse-etc.service"):
        assert f"\n{line}\n" in unit
    wants = [name for name in found if name.endswith("initrd.target.wants/kdumpd-capture.service")]
    assert len(wants) == 1
    assert "usr/lib/kdumpd/capture" in found
    assert not [name for name in found if name.endswith("build-parameter.txt")]


def test_nothing_in_the_dracut_way_answers_a_failure_with_a_shell(step: BuildImage, tmp_path: Path) -> None:
    found = entries(build.build(replace(step, boot="dracut", output=tmp_path / "dracut.img")).path)
    emergency = found["etc/systemd/system/emergency.target"].data.decode()
    assert "\nRequires=kdumpd-capture.service\n" in emergency
    assert found["etc/systemd/system/rescue.target"].data == b"emergency.target"
    for hook in ("emergency", "shutdown-emergency"):
        assert [name for name in found if f"/hooks/{hook}/00-" in name], hook
    assert found["etc/cmdline.d/kdumpd.conf"].data.startswith(b"rd.shell=0 ")
