"""kexec called for one system call, then the other; a small program stands for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.errors import LoadError
from kdumpd.loader.kexec import Call, load, load_arguments, reason, unload
from kdumpd.steps.load import LoadCrashKernel

STEP = LoadCrashKernel(Path("/boot/vmlinuz"), Path("/var/lib/kdumpd/r/capture.img"), "irqpoll nr_cpus=1", "6.1")


def program(tmp_path: Path, script: str) -> tuple[str, Path]:
    """A kexec that runs `script` with $2 the system call's flag, and the sysfs that it writes to."""
    sysfs = tmp_path / "sys"
    (sysfs / "kernel").mkdir(parents=True)
    loaded = sysfs / "kernel" / "kexec_crash_loaded"
    loaded.write_text("0\n")
    path = tmp_path / "kexec"
    path.write_text(f'#!/bin/sh\nloaded={loaded}\nlog={tmp_path}/log\necho "$2" >> "$log"\n{script}\n')
    path.chmod(0o755)
    return str(path), sysfs


def test_the_argv_names_the_call_the_image_the_line_and_the_kernel() -> None:
    assert load_arguments("/sbin/kexec", STEP, Call.FILE) == (
        "/sbin/kexec",
        "-p",
        "-s",
        "--initrd=/var/lib/kdumpd/r/capture.img",
        "--command-line=irqpoll nr_cpus=1",
        "/boot/vmlinuz",
    )
    assert load_arguments("kexec", STEP, Call.MEMORY)[2] == "-c"


def test_kexec_file_load_comes_first_and_is_enough(tmp_path: Path) -> None:
    kexec, sysfs = program(tmp_path, 'echo 1 > "$loaded"')
    loaded = load(STEP, kexec, sysfs)
    assert loaded == (Call.FILE, "")
    assert (tmp_path / "log").read_text() == "-s\n"


def test_kexec_load_follows_a_refusal_and_the_reason_is_kept(tmp_path: Path) -> None:
    script = 'if [ "$2" = -s ]; then echo "kexec_file_load failed: Function not implemented" >&2; exit 255; fi\n'
    kexec, sysfs = program(tmp_path, f'{script}echo 1 > "$loaded"')
    loaded = load(STEP, kexec, sysfs)
    assert loaded.call is Call.MEMORY
    assert loaded.refusal.startswith("this kernel has no kexec_file_load (")
    assert (tmp_path / "log").read_text() == "-s\n-c\n"


def test_two_refusals_are_one_error_with_both_reasons(tmp_path: Path) -> None:
    kexec, sysfs = program(tmp_path, 'echo "kexec failed: Operation not permitted" >&2; exit 1')
    with pytest.raises(LoadError, match=r"kexec_file_load: forbidden: lockdown.*kexec_load: forbidden: lockdown"):
        load(STEP, kexec, sysfs)


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("exit 1", "the crash kernel that was loaded before still is"),
        ("echo 0 > $loaded; exit 1", "no crash kernel is"),
    ],
)
def test_two_refusals_say_what_they_left_loaded(tmp_path: Path, script: str, left: str) -> None:
    kexec, sysfs = program(tmp_path, script)
    (sysfs / "kernel/kexec_crash_loaded").write_text("1\n")
    with pytest.raises(LoadError, match=f"; {left}"):
        load(STEP, kexec, sysfs)


def test_a_success_that_the_kernel_does_not_confirm_is_an_error(tmp_path: Path) -> None:
    kexec, sysfs = program(tmp_path, "exit 0")
    with pytest.raises(LoadError, match="no crash kernel is loaded"):
        load(STEP, kexec, sysfs)


@pytest.mark.parametrize(
    ("complaint", "meaning"),
    [
        ("kexec_file_load failed: Required key not available", "not signed by a key"),
        ("Could not find a free area of memory of 0x8000 bytes...", "no room"),
        ("kexec_file_load failed: Exec format error", "that format"),
        ("something new", "something new"),
        ("", "gave no reason"),
    ],
)
def test_a_refusal_is_explained(complaint: str, meaning: str) -> None:
    assert meaning in reason(complaint)


def test_an_unload_is_confirmed_by_the_kernel(tmp_path: Path) -> None:
    kexec, sysfs = program(tmp_path, 'echo 0 > "$loaded"')
    (sysfs / "kernel/kexec_crash_loaded").write_text("1\n")
    unload(kexec, sysfs)
    assert (tmp_path / "log").read_text() == "-s\n"


def test_an_unload_that_one_call_does_not_do_is_left_to_the_other(tmp_path: Path) -> None:
    kexec, sysfs = program(tmp_path, '[ "$2" = -s ] && exit 1; echo 0 > "$loaded"')
    (sysfs / "kernel/kexec_crash_loaded").write_text("1\n")
    unload(kexec, sysfs)
    assert (tmp_path / "log").read_text() == "-s\n-c\n"


def test_an_unload_that_changes_nothing_is_an_error(tmp_path: Path) -> None:
    kexec, sysfs = program(tmp_path, "echo Operation not permitted >&2; exit 1")
    (sysfs / "kernel/kexec_crash_loaded").write_text("1\n")
    with pytest.raises(LoadError, match="the crash kernel is still loaded; kexec_file_load: forbidden"):
        unload(kexec, sysfs)


@pytest.mark.parametrize(
    ("was", "left"), [("1", "the crash kernel that was loaded before still is"), ("0", "no crash")]
)
def test_a_kexec_that_hangs_is_a_load_error_that_says_what_is_left(tmp_path: Path, was: str, left: str) -> None:
    kexec, sysfs = program(tmp_path, "sleep 60")
    (sysfs / "kernel/kexec_crash_loaded").write_text(f"{was}\n")
    with pytest.raises(LoadError, match=f"vmlinuz: not loaded: .*kexec: still running after .* stopped; {left}"):
        load(STEP, kexec, sysfs, deadline=0.3)
    assert (tmp_path / "log").read_text() == "-s\n"
    with pytest.raises(LoadError, match=r"cannot be unloaded: .*; see dmesg .* then run kdumpd apply"):
        unload(kexec, sysfs, deadline=0.3)


def test_a_kexec_that_cannot_be_started_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"not loaded: .*/kexec: cannot be started: No such file"):
        load(STEP, str(tmp_path / "kexec"), tmp_path)
