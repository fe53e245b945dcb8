"""What has to be done, and the reason given for it, for each thing that can have changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.host.facts import HostFacts, KernelFiles
from kdumpd.image.manifest import Inputs, Manifest
from kdumpd.plan import render
from kdumpd.plan.decide import Plan, changed_keys, decide
from kdumpd.plan.situation import DiskState, LoadedRecord, Situation
from kdumpd.steps.build import BuildImage
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
ARMED = Situation(
    facts=FACTS,
    state=DiskState(
        manifest=Manifest(INPUTS, {}, 0, {}, "i1"),
        policy_json=POLICY,
        image_sha256="i1",
        loaded=LoadedRecord("boot-1", "i1", str(VMLINUZ), "v1", "irqpoll"),
    ),
    step=BuildImage("6.1", Path("/lib/modules/6.1"), POLICY, (), IMAGE),
    inputs=INPUTS,
    boot_reason="every target is a plain local disk",
    command_line="irqpoll",
    vmlinuz_sha256="v1",
    blocked=(),
    image=IMAGE,
)


def reasons(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {type(step).__name__: step.reasons for step in plan.steps}


def with_state(**changes: object) -> Situation:
    return replace(ARMED, state=replace(ARMED.state, **changes))  # type: ignore[arg-type]


def with_inputs(**changes: object) -> Situation:
    return replace(ARMED, inputs=replace(INPUTS, **changes))  # type: ignore[arg-type]


def test_an_armed_machine_has_nothing_to_do() -> None:
    assert decide(ARMED).steps == ()
    assert render.lines(decide(ARMED), ARMED)[0].startswith("nothing to do")


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
        (with_inputs(drivers=("nvme", "ext4")), "the drivers changed: now nvme; no longer virtio"),
        (with_inputs(drivers=("ext4", "virtio")), "the drivers changed: their order"),
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
        (with_inputs(drivers=("virtio",), sources={"/lib/libc.so.6": "l1"}), "the drivers changed: no longer ext4"),
        (with_inputs(dracut="dracut 110"), "dracut changed: dracut 059 to dracut 110"),
    ],
)
def test_an_image_is_stale_for_a_reason_that_is_said_and_what_is_built_is_loaded(
    situation: Situation, reason: str
) -> None:
    assert reasons(decide(situation)) == {"BuildImage": (reason,), "LoadCrashKernel": ("the image is built anew",)}


def test_a_changed_policy_names_the_keys() -> None:
    changed = with_inputs(policy_sha256="p2")
    assert changed.step is not None
    policy = '{"dump":{"level":17},"time_budget":900}'
    plan = decide(replace(changed, step=replace(changed.step, policy_json=policy)))
    assert reasons(plan)["BuildImage"] == ("the policy changed: dump.level 31 to 17",)


def test_differences_of_two_documents_are_found_at_any_depth() -> None:
    old = {"a": {"b": [1], "c": None}, "gone": 1}
    assert changed_keys(old, {"a": {"b": [2], "c": None}, "new": True}) == (
        "a.b [1] to [2]",
        "gone 1 to null",
        "new null to true",
    )


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (replace(ARMED, command_line="irqpoll nr_cpus=2"), "the command line changed"),
        (replace(ARMED, vmlinuz_sha256="v2"), "another kernel is loaded"),
        (replace(ARMED, facts=replace(FACTS, loaded=False)), "no crash kernel is loaded"),
        (
            replace(ARMED, facts=replace(FACTS, boot_id="boot-2")),
            "what is loaded was not loaded by kdumpd since this boot",
        ),
        (with_state(loaded=None), "what is loaded was not loaded by kdumpd since this boot"),
        (with_state(loaded=LoadedRecord("boot-1", "i0", str(VMLINUZ), "v1", "irqpoll")), "another image is loaded"),
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
    assert render.lines(plan, situation) == (
        f"build {IMAGE} (direct: every target is a plain local disk)",
        "    page scan by the kernel: kdumpd_scan 1.0, unsigned",
        "    because there is no image for kernel 6.1",
        f"load kernel 6.1 and {IMAGE}",
        "    because no crash kernel is loaded",
        "    with irqpoll",
    )
    document = render.document(plan, situation)
    assert (document["version"], document["scan"]) == (1, SCAN)
    assert [step["step"] for step in document["steps"]] == ["build-image", "load-crash-kernel"]  # type: ignore[attr-defined]
