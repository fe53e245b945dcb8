"""What has to be done, and the reason given for it, for each thing that can have changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.host.facts import HostFacts, KernelFiles
from kdumpd.image.manifest import Inputs, Manifest
from kdumpd.loader.contents import Found
from kdumpd.plan import render
from kdumpd.plan.decide import Plan, decide
from kdumpd.plan.differences import changed_keys
from kdumpd.plan.line import paint
from kdumpd.plan.situation import BuiltRecord, DiskState, LoadedRecord, PolicyFile, Situation
from kdumpd.policy.compiled import carried, to_json
from kdumpd.policy.load import parse
from kdumpd.steps.build import BuildImage, CaptureTarget
from kdumpd.steps.load import LoadCrashKernel

POLICY = '{"dump":{"level":31},"time_budget":900}'
MODULE = "usr/lib/modules/6.1/updates/kdumpd_scan.ko"
SOURCES = {MODULE: "k1", "usr/lib/modules/6.1/ext4.ko": "e1", "/lib/libc.so.6": "l1"}
SCAN = "by the kernel: kdumpd_scan 1.0, unsigned"
INPUTS = Inputs("0.1.0", "6.1", "p1", "direct", SCAN, ("virtio", "ext4"), "t1", "3.11", "0.25", "dracut 059", SOURCES)
VMLINUZ = Path("/boot/vmlinuz-6.1")
IMAGE = Path("/var/lib/kdumpd/6.1/capture.img")
FACTS = HostFacts(
    kernel=KernelFiles("6.1", VMLINUZ, Path("/lib/modules/6.1")),
    machine="x86_64",
    hostname="h",
    command_line="",
    boot_id="boot-1",
    cpus=2,
    boot_cpu=0,
    iomem="",
    crash_ranges=(),
    reservation=192 << 20,
    has_kexec=True,
    loaded=True,
    kexec="/sbin/kexec",
    dracut="/usr/bin/dracut",
)
LOADED = LoadedRecord("boot-1", "i1", str(VMLINUZ), "v1", "irqpoll", "6.1")
FOREIGN = "another program loaded the crash kernel: kdumpd has loaded none since this boot"
ARMED = Situation(
    facts=FACTS,
    state=DiskState(
        manifest=Manifest(INPUTS, {}, 0, {}, "i1"),
        policy_json=POLICY,
        image_sha256="i1",
        loaded=LOADED,
    ),
    step=BuildImage("6.1", Path("/lib/modules/6.1"), POLICY, (), IMAGE),
    inputs=INPUTS,
    boot_reason="every target is a plain local disk",
    command_line="irqpoll",
    vmlinuz_sha256="v1",
    blocked=(),
    image=IMAGE,
    running="6.1",
)


def reasons(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {type(step).__name__: tuple(reason.text for reason in step.reasons) for step in plan.steps}


def causes(plan: Plan) -> list[str]:
    return [reason.cause.value for step in plan.everything for reason in step.reasons]


def printed(plan: Plan, situation: Situation) -> tuple[str, ...]:
    return tuple(paint(line, colours=False) for line in render.lines(plan, situation))


def with_state(**changes: object) -> Situation:
    return replace(ARMED, state=replace(ARMED.state, **changes))  # type: ignore[arg-type]


def with_inputs(**changes: object) -> Situation:
    return replace(ARMED, inputs=replace(INPUTS, **changes))  # type: ignore[arg-type]


def test_an_armed_machine_has_nothing_to_do() -> None:
    assert decide(ARMED).steps == ()
    assert printed(decide(ARMED), ARMED)[0].startswith("nothing to do")


def test_a_new_machine_builds_then_loads() -> None:
    new = replace(ARMED, facts=replace(FACTS, loaded=False), state=DiskState(None, None, "", None))
    plan = decide(new)
    assert [type(step) for step in plan.steps] == [BuildImage, LoadCrashKernel]
    assert reasons(plan) == {
        "BuildImage": ("there is no image for kernel 6.1",),
        "LoadCrashKernel": ("no crash kernel is loaded",),
    }


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (with_state(manifest=None), "the image has no readable manifest beside it"),
        (with_state(image_sha256="cut"), "the image is not the one that its manifest describes: changed or damaged"),
        (with_inputs(kdumpd="0.2.0"), "kdumpd's version changed: 0.1.0 to 0.2.0"),
        (with_inputs(boot="dracut"), "the way it boots changed: direct to dracut"),
        (
            with_inputs(drivers=("nvme", "ext4")),
            "the drivers of the targets' disks changed: now nvme; no longer virtio",
        ),
        (with_inputs(drivers=("ext4", "virtio")), "the drivers of the targets' disks changed: their order"),
        (with_inputs(sources=SOURCES | {"/lib/libc.so.6": "l2"}), "changed: /lib/libc.so.6"),
        (
            with_inputs(sources=dict.fromkeys(SOURCES, "2")),
            f"changed: /lib/libc.so.6, usr/lib/modules/6.1/ext4.ko, {MODULE}",
        ),
        (
            with_inputs(sources={"/lib/libc.so.6": "l1", "/b": "b"}),
            f"it is made of other files: now /b; no longer usr/lib/modules/6.1/ext4.ko, {MODULE}",
        ),
        (with_inputs(sources=SOURCES | {MODULE: "k2"}), "kdumpd_scan was built anew"),
        (with_inputs(scan="by the user engine: none"), "the page scan is now by the user engine: none"),
        (
            with_inputs(drivers=("virtio",), sources={"/lib/libc.so.6": "l1"}),
            "the drivers of the targets' disks changed: no longer ext4",
        ),
        (with_inputs(dracut="dracut 110"), "dracut changed: dracut 059 to dracut 110"),
    ],
)
def test_an_image_is_stale_for_a_reason_that_is_said_and_what_is_built_is_loaded(
    situation: Situation, reason: str
) -> None:
    assert reasons(decide(situation)) == {"BuildImage": (reason,), "LoadCrashKernel": ("the image is built anew",)}


def test_a_changed_policy_names_each_key_with_both_values_and_its_line() -> None:
    changed = with_inputs(policy_sha256="p2")
    assert changed.step is not None
    file = PolicyFile("/etc/kdumpd.yaml", {"dump.level": 4})
    step = replace(changed.step, policy_json='{"dump":{"level":17},"time_budget":300}')
    plan = decide(replace(changed, step=step, policy_file=file))
    assert reasons(plan)["BuildImage"] == (
        "the policy changed: dump.level 31 to 17 (/etc/kdumpd.yaml, line 4)",
        "the policy changed: time_budget 15min to 5min (the default: /etc/kdumpd.yaml does not have it)",
    )
    assert [(reason.old, reason.new) for reason in plan.steps[0].reasons] == [("31", "17"), ("15min", "5min")]


def test_a_policy_that_is_not_known_any_more_has_changed() -> None:
    situation = replace(with_inputs(policy_sha256="p2"), state=replace(ARMED.state, policy_json="{"))
    assert reasons(decide(situation))["BuildImage"] == ("the policy changed",)


def test_what_no_image_uses_of_the_policy_makes_none_stale_and_is_no_reason() -> None:
    old, new = parse(b"retention: {keep: 3, max_size: 1G, min_free: 1G}"), parse(b"retention: {min_free: 3G}")

    def plan(before: str, after: str) -> Plan:
        changed = with_inputs(policy_sha256="p2")
        assert changed.step is not None
        step, state = replace(changed.step, policy_json=after), replace(changed.state, policy_json=before)
        return decide(replace(changed, step=step, state=state))

    (reason,) = reasons(plan(to_json(old), carried(new)))["BuildImage"]
    assert reason == "the policy changed: retention.min_free 1G to 3G"
    # An image of before, in which the whole retention is.
    assert plan(to_json(old), carried(old)).steps == ()


def with_target(
    old: dict[str, object], device: str = "UUID=1", fstype: str = "ext4", path: str = "/var/crash"
) -> Situation:
    """An image that was built for a target that is now otherwise."""
    target = CaptureTarget(device, fstype, "/crash", path)
    situation = with_inputs(targets_sha256="t2")
    assert situation.step is not None
    built = BuiltRecord("i1", 5, 0, {"targets": [old], "hostname": "h", "hands_off": []})
    return replace(
        situation,
        state=replace(situation.state, built=built),
        step=replace(situation.step, targets=(target,), hostname="h"),
    )


TARGET: dict[str, object] = {
    "device": "UUID=1", "fstype": "ext4", "directory": "/crash", "path": "/var/crash", "options": "", "assembled": False
}  # fmt: skip


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (with_target(TARGET, device="UUID=2"), "the device of target /var/crash changed: UUID=1 to UUID=2"),
        (with_target(TARGET, fstype="xfs"), "the fstype of target /var/crash changed: ext4 to xfs"),
        (with_target(TARGET, path="/srv"), "the targets changed: now /srv; no longer /var/crash"),
        (with_target({**TARGET, "path": "/srv"}), "the targets changed: now /var/crash; no longer /srv"),
    ],
)
def test_a_target_that_changed_says_what_of_it(situation: Situation, reason: str) -> None:
    plan = decide(situation)
    assert reasons(plan)["BuildImage"] == (reason,)
    assert causes(plan) == ["target-changed", "image-built"]


def test_a_build_that_is_not_on_record_says_less_of_its_targets() -> None:
    plan = decide(with_inputs(targets_sha256="t2"))
    assert reasons(plan)["BuildImage"][0].startswith("a target's device, file system or directory changed")


def test_a_disk_with_another_name_and_the_same_uuid_is_said_and_nothing_follows() -> None:
    target = CaptureTarget("UUID=1", "ext4", "/crash", "/var/crash")
    renamed = replace(
        with_state(loaded=replace(LOADED, nodes={"/var/crash": "/dev/sda1"})),
        step=replace(ARMED.step, targets=(target,)),  # type: ignore[type-var]
        nodes={"/var/crash": "/dev/sdb1"},
    )
    plan = decide(renamed)
    assert plan.everything == ()
    assert plan.notes == (
        "the disk of target /var/crash is /dev/sdb1 now, no longer /dev/sda1; the image finds it by UUID=1 and stays "
        "as it is",
    )
    assert printed(plan, renamed)[1].startswith("note: the disk of target /var/crash is /dev/sdb1 now")


def test_an_image_that_is_gone_or_cut_or_flipped_says_which() -> None:
    built = BuiltRecord("i1", 5000, 0, {})
    gone = with_state(image_sha256="", image_size=0)
    cut = with_state(image_sha256="x", image_size=2000, built=built)
    flipped = with_state(image_sha256="x", image_size=5000, built=built)
    said = [reasons(decide(situation))["BuildImage"][0] for situation in (gone, cut, flipped)]
    assert said[0] == "there is no image for kernel 6.1 any more: it is gone from the disk"
    assert said[1].endswith("changed or damaged (cut: 2000 of 5000 bytes)")
    assert said[2].endswith("changed or damaged (its bytes are others)")


def test_another_kernel_than_at_the_last_load_says_which() -> None:
    booted = with_state(manifest=None, image_sha256="", loaded=replace(LOADED, release="6.0", boot_id="boot-0"))
    plan = decide(replace(booted, facts=replace(FACTS, loaded=False)))
    assert reasons(plan) == {
        "BuildImage": ("the kernel changed: 6.0 to 6.1, for which there is no image yet",),
        "LoadCrashKernel": ("no crash kernel is loaded",),
    }


def upgraded(**changes: object) -> Situation:
    """The armed machine with kernel 6.2 installed."""
    image = Path("/var/lib/kdumpd/6.2/capture.img")
    ahead = replace(
        ARMED,
        facts=replace(FACTS, kernel=KernelFiles("6.2", Path("/boot/vmlinuz-6.2"), Path("/lib/modules/6.2"))),
        state=DiskState(None, None, "", None),
        step=BuildImage("6.2", Path("/lib/modules/6.2"), POLICY, (), image),
        inputs=replace(INPUTS, kernel="6.2"),
        image=image,
        load=False,
    )
    return replace(ARMED, ahead=replace(ahead, **changes))  # type: ignore[arg-type]


def test_a_newer_kernel_has_its_image_built_before_it_boots() -> None:
    plan = decide(upgraded())
    assert plan.steps == ()
    assert [(step.release, str(step.output)) for step in plan.ahead] == [("6.2", "/var/lib/kdumpd/6.2/capture.img")]
    assert causes(plan) == ["kernel-upgraded"]
    (reason,) = plan.ahead[0].reasons
    assert reason.text == "kernel 6.2 is installed and newer than the running 6.1: its image is built before it boots"


def test_an_older_kernel_whose_image_is_asked_for_is_not_called_newer() -> None:
    beside = upgraded().ahead
    assert beside is not None
    (reason,) = decide(replace(beside, running="6.3")).steps[0].reasons
    assert reason.text == "kernel 6.2 is installed beside the running 6.3: its image is built before it boots"


def test_a_newer_kernel_that_can_have_no_image_is_said_and_stops_nothing() -> None:
    plan = decide(upgraded(blocked=("scan.engine: kernel cannot be obeyed",)))
    assert plan.everything == ()
    assert plan.notes == ("kernel 6.2 is installed, but has no image yet: scan.engine: kernel cannot be obeyed",)


def test_differences_of_two_documents_are_found_at_any_depth() -> None:
    old = {"a": {"b": [1], "c": None}, "gone": 1}
    assert changed_keys(old, {"a": {"b": [2], "c": None}, "new": True}) == (
        ("a.b", [1], [2]),
        ("gone", 1, None),
        ("new", None, True),
    )


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (replace(ARMED, command_line="irqpoll nr_cpus=2"), "the command line changed: now nr_cpus=2"),
        (replace(ARMED, vmlinuz_sha256="v2"), f"{VMLINUZ} is another kernel than the one that is loaded"),
        (
            with_state(loaded=replace(LOADED, vmlinuz="/boot/old")),
            f"the kernel's file is {VMLINUZ} now, no longer /boot/old",
        ),
        (replace(ARMED, facts=replace(FACTS, loaded=False)), "another program unloaded the crash kernel"),
        (
            replace(ARMED, facts=replace(FACTS, loaded=False), rival="kdump-tools"),
            "another program unloaded the crash kernel; kdump-tools is installed here and may do it again",
        ),
        (replace(ARMED, facts=replace(FACTS, loaded=False, boot_id="boot-2")), "no crash kernel is loaded"),
        (
            replace(ARMED, facts=replace(FACTS, loaded=False), disarmed=True),
            "`kdumpd disarm` unloaded the crash kernel",
        ),
        (replace(ARMED, facts=replace(FACTS, boot_id="boot-2")), FOREIGN),
        (with_state(loaded=None), FOREIGN),
        (
            replace(ARMED, memory=Found.OTHER),
            "another program replaced the crash kernel, or its memory is damaged: it is not what kdumpd loaded",
        ),
        (
            with_state(loaded=replace(LOADED, image_sha256="i0")),
            "another image is loaded than the one on the disk",
        ),
        (with_state(loaded=replace(LOADED, reservation=256 << 20)), "the reservation was resized: 256M to 192M"),
    ],
)
def test_a_good_image_is_loaded_again_for_a_reason_that_is_said(situation: Situation, reason: str) -> None:
    assert reasons(decide(situation)) == {"LoadCrashKernel": (reason,)}


def test_what_stands_in_the_way_leaves_no_steps() -> None:
    plan = decide(replace(ARMED, facts=replace(FACTS, loaded=False), blocked=("reservation: none",)))
    assert (plan.steps, plan.blocked) == ((), ("reservation: none",))


def test_another_root_is_built_and_never_loaded() -> None:
    offline = replace(ARMED, load=False, facts=replace(FACTS, loaded=False), state=DiskState(None, None, "", None))
    assert [type(step) for step in decide(offline).steps] == [BuildImage]


def test_the_printed_plan_has_every_reason_and_the_whole_command_line() -> None:
    situation = replace(ARMED, facts=replace(FACTS, loaded=False), state=DiskState(None, None, "", None))
    plan = decide(situation)
    assert printed(plan, situation) == (
        f"build {IMAGE} (direct: every target is a plain local disk)",
        "    page scan by the kernel: kdumpd_scan 1.0, unsigned",
        "    because there is no image for kernel 6.1",
        f"load kernel 6.1 and {IMAGE}",
        "    because no crash kernel is loaded",
        "    with irqpoll",
    )
    document = render.document(plan, situation)
    assert document["steps"][0]["causes"] == [  # type: ignore[index]
        {"cause": "image-missing", "text": "there is no image for kernel 6.1"}
    ]
    assert (document["version"], document["scan"]) == (1, SCAN)
    assert [step["step"] for step in document["steps"]] == ["build-image", "load-crash-kernel"]  # type: ignore[attr-defined]


def test_a_change_is_coloured_on_a_terminal_alone() -> None:
    situation = with_inputs(boot="dracut")
    lines = render.lines(decide(situation), situation)
    (line,) = (line for line in lines if "the way it boots" in paint(line, colours=False))
    assert paint(line, colours=False) == "    because the way it boots changed: direct to dracut"
    assert "\x1b[31mdirect\x1b[0m to \x1b[32mdracut\x1b[0m" in paint(line, colours=True)
