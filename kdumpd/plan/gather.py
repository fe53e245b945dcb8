"""The situation of a machine, gathered: every fact that a plan depends on, and every reason why there can be none.

Reads only. Called by the verbs `plan` and `apply`. May import every layer below `plan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kdumpd.errors import HostError, KdumpdError, PolicyError
from kdumpd.host import facts as host_facts
from kdumpd.host import target as host_target
from kdumpd.host.facts import HostFacts
from kdumpd.host.target import Places, TargetFacts
from kdumpd.image import build
from kdumpd.loader import commandline
from kdumpd.plan import state
from kdumpd.plan.situation import Situation
from kdumpd.policy import compiled, memmap
from kdumpd.policy.model import Boot, Policy
from kdumpd.steps.build import BuildImage, CaptureTarget
from kdumpd.target import superblock


def obstacles(facts: HostFacts, load: bool) -> tuple[str, ...]:
    """Why this machine cannot be armed as it is, each with what to do."""
    release = facts.kernel.release
    if load and not facts.has_kexec:
        # Another kernel has to be booted first: nothing else that is found out about this one matters.
        return (
            f"kexec: the running kernel {release} cannot load a crash kernel: it has no "
            "/sys/kernel/kexec_crash_loaded, so it was built without kexec (CONFIG_KEXEC, CONFIG_KEXEC_FILE); "
            "boot a kernel that has it",
        )
    found = []
    if load and not facts.reservation:
        found.append(
            "reservation: no memory is reserved for a crash kernel; add crashkernel=192M to the kernel's command line "
            "in the boot loader and restart"
        )
    if not release:
        found.append("kernel: no kernel is installed there: lib/modules has no release; install a kernel's package")
    elif facts.kernel.modules is None:
        found.append(f"kernel: there is no /lib/modules/{release}; install that kernel's package")
    if load and facts.kernel.vmlinuz is None:
        found.append(f"kernel: there is no /boot/vmlinuz-{release}; install that kernel's package")
    if facts.dracut is None:
        found.append("dracut: not installed; install the package dracut-core")
    if load and facts.kexec is None:
        found.append("kexec: the program is not installed; install the package kexec-tools")
    return tuple(found)


def capture_target(facts: TargetFacts) -> CaptureTarget:
    """A target as the capture kernel will find it: by UUID, which a disk keeps when it is renamed."""
    uuid = facts.uuid
    if uuid is None:
        try:
            found = superblock.read(facts.node)
        except OSError:
            found = None
        uuid = found.uuid if found is not None else None
    device = f"UUID={uuid}" if uuid else facts.node
    return CaptureTarget(
        device=device,
        fstype=facts.fstype,
        directory=facts.directory,
        path=facts.path,
        drivers=facts.device.drivers,
        options=facts.options,
        assembled=bool(facts.device.assembled),
    )


def choose_boot(boot: Boot, targets: Iterable[TargetFacts]) -> tuple[str, str]:
    """(direct or dracut, why). HostError when the policy asks for a way that cannot reach a target."""
    assembled = {target.path: target.device.assembled for target in targets if target.device.assembled}
    layers = "; ".join(f"{path} lies on {' on '.join(layers)}" for path, layers in assembled.items())
    if boot is Boot.DIRECT and assembled:
        raise HostError(
            f"capture_kernel.boot: direct cannot reach every target: {layers}; "
            "write boot: auto or dracut, or name a directory on a plain disk"
        )
    if boot is Boot.AUTO:
        if assembled:
            return "dracut", f"{layers}, which dracut's modules put together"
        return "direct", "every target is a plain local disk"
    return boot.value, "capture_kernel.boot says so"


def _newest_release(root: Path) -> str:
    """The newest kernel installed under `root`, "" without any."""
    folders = (root / "lib" / "modules", root / "usr" / "lib" / "modules")
    names = {entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir() if entry.is_dir()}

    def by_version(name: str) -> list[tuple[int, int, str]]:
        return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]

    return max(names, key=by_version, default="")


def _targets(policy: Policy, places: Places, root: Path, blocked: list[str]) -> tuple[TargetFacts, ...]:
    found = []
    for target in policy.targets:
        try:
            found.append(host_target.locate(target.path, places, root))
        except HostError as error:
            blocked.append(str(error))
    return tuple(found)


def _hints(policy: Policy, facts: HostFacts, blocked: list[str]) -> memmap.ResolvedHints:
    try:
        return memmap.resolve(policy.memmap, facts.iomem, facts.crash_ranges, facts.machine)
    except PolicyError as error:
        blocked.extend(error.problems)
        return memmap.ResolvedHints((), ())


def machine_of(facts: HostFacts) -> commandline.Machine:
    """What of the machine decides the capture kernel's command line."""
    return commandline.Machine(facts.machine, facts.cpus, facts.boot_cpu, facts.reservation, facts.kernel.release)


def gather(policy: Policy, root: Path = Path("/"), places: Places | None = None) -> Situation:
    """The situation of the machine for this policy; what stands in the way is collected, not raised.

    Another `root` is for installers, which mount the new system on this machine's own disks: kernel files, image and
    state are those of the system there, mounts, devices and hardware are this machine's, and nothing is loaded.
    """
    places = places or Places()
    load = root == Path("/")
    facts = host_facts.read(root, places)
    if not load:
        facts = replace(facts, kernel=host_facts.kernel_files(_newest_release(root), root))
    release = facts.kernel.release
    blocked = list(obstacles(facts, load))
    targets = _targets(policy, places, root, blocked)
    hints = _hints(policy, facts, blocked)
    boot, boot_reason, line = "", "", ""
    try:
        boot, boot_reason = choose_boot(policy.capture_kernel.boot, targets)
        line = commandline.render(facts.command_line, policy.capture_kernel, machine_of(facts), hints.arguments)
    except KdumpdError as error:
        blocked.append(str(error))
    image = state.image_of(root, release)
    step = inputs = None
    if not blocked and facts.kernel.modules is not None:
        step = BuildImage(
            release=release,
            modules=facts.kernel.modules,
            policy_json=compiled.to_json(policy),
            targets=tuple(capture_target(target) for target in targets),
            output=image,
            hostname=facts.hostname,
            boot=boot,
            dracut_modules=tuple(dict.fromkeys(name for target in targets for name in target.device.dracut_modules)),
            hands_off=hints.hands_off,
            reservation=facts.reservation if load else None,
            engine=policy.scan.engine.value,
            firmware=root / "lib" / "firmware",
        )
        try:
            inputs = build.inputs(step)
        except KdumpdError as error:
            blocked.append(str(error))
    return Situation(
        facts=facts,
        state=state.read(root, release),
        step=step,
        inputs=inputs,
        boot_reason=boot_reason,
        command_line=line,
        vmlinuz_sha256=state.sha256_of(facts.kernel.vmlinuz) if facts.kernel.vmlinuz else "",
        blocked=tuple(blocked),
        image=image,
        load=load,
    )
