"""The situation of a machine, gathered: every fact that a plan depends on, and every reason why there can be none.

Reads only. Called by the verbs `plan` and `apply`. May import every layer below `plan`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kdumpd.errors import HostError, KdumpdError, PolicyError
from kdumpd.host import facts as host_facts
from kdumpd.host import program
from kdumpd.host.facts import HostFacts
from kdumpd.host.target import Places, TargetFacts
from kdumpd.image import build, memory
from kdumpd.loader import commandline, contents
from kdumpd.loader.contents import Found
from kdumpd.plan import kernels, state
from kdumpd.plan.situation import PolicyFile, Situation
from kdumpd.policy import compiled, memmap
from kdumpd.policy.model import Boot, Policy
from kdumpd.prove import whereabouts
from kdumpd.prove.whereabouts import Whereabouts
from kdumpd.steps.build import BuildImage, CaptureTarget


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
        found.append(_unreserved(facts))
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
    return CaptureTarget(
        device=f"UUID={facts.uuid}" if facts.uuid else facts.node,
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


def _hints(policy: Policy, facts: HostFacts, blocked: list[str]) -> memmap.ResolvedHints:
    try:
        return memmap.resolve(policy.memmap, facts.iomem, facts.crash_ranges, facts.machine)
    except PolicyError as error:
        blocked.extend(error.problems)
        return memmap.ResolvedHints((), ())


def machine_of(facts: HostFacts) -> commandline.Machine:
    """What of the machine decides the capture kernel's command line."""
    return commandline.Machine(facts.machine, facts.cpus, facts.boot_cpu, facts.reservation, facts.kernel.release)


def _unreserved(facts: HostFacts) -> str:
    asked = [word for word in facts.command_line.split() if word.startswith("crashkernel=")]
    if not asked:
        return (
            "reservation: no memory is reserved for a crash kernel; add crashkernel=192M to the kernel's command line "
            "in the boot loader and restart"
        )
    return (
        f"reservation: the kernel could not reserve what its command line asks for ({' '.join(asked)}); "
        "see `dmesg | grep -i crashkernel`, correct it in the boot loader and restart"
    )


#: Programs of other kdump services, and what people call those.
_RIVALS = (("kdump-config", "kdump-tools"), ("kdumpctl", "kdump-utils"), ("kdumptool", "SUSE's kdump"))


def _rival() -> str:
    return next((name for command, name in _RIVALS if program.find(command)), "")


def gather(
    policy: Policy,
    root: Path = Path("/"),
    places: Places | None = None,
    file: PolicyFile | None = None,
    release: str = "",
) -> Situation:
    """The situation of the machine for this policy; what stands in the way is collected, not raised.

    Another `root` is for installers, which mount the new system on this machine's own disks: kernel files, image and
    state are those of the system there, mounts, devices and hardware are this machine's, and nothing is loaded.
    A `release` is that of an installed kernel whose image is wanted and nothing else; without one it is the running
    kernel's situation (in another root: the newest one's there), and the one of a newer kernel ahead of its boot.
    """
    places = places or Places()
    file = file or PolicyFile()
    facts = host_facts.read(root, places)
    running = facts.kernel.release
    load = root == Path("/") and not release
    if release or not load:
        facts = replace(facts, kernel=host_facts.kernel_files(release or kernels.newest(root), root))
    # Once for every kernel: a disk that does not answer costs its deadline.
    sought = whereabouts.find([target.path for target in policy.targets], root, places)
    found = _situation(policy, root, sought, file, facts, load)
    if not load:
        return replace(found, running=running if root == Path("/") else "")
    next_release = kernels.newer(root, running)
    ahead = None
    if next_release:
        theirs = replace(facts, kernel=host_facts.kernel_files(next_release, root))
        ahead = replace(_situation(policy, root, sought, file, theirs, load=False), running=running)
    record = found.state.loaded
    held = Found.UNKNOWN
    if facts.loaded and record is not None and record.pieces_boot_id == record.boot_id == facts.boot_id:
        held = contents.look(record.pieces, places.proc / "kcore")
    return replace(
        found,
        running=running,
        ahead=ahead,
        memory=held,
        rival=_rival(),
        disarmed=state.disarmed_file(places.run).exists(),
    )


def _situation(
    policy: Policy, root: Path, sought: tuple[Whereabouts, ...], file: PolicyFile, facts: HostFacts, load: bool
) -> Situation:
    """The situation of one kernel."""
    release = facts.kernel.release
    blocked = [*obstacles(facts, load), *(one.why for one in sought if one.facts is None)]
    targets = tuple(one.facts for one in sought if one.facts is not None)
    hints = _hints(policy, facts, blocked)
    boot, boot_reason, line = "", "", ""
    try:
        boot, boot_reason = choose_boot(policy.capture_kernel.boot, targets)
        line = commandline.render(facts.command_line, policy.capture_kernel, machine_of(facts), hints.arguments)
    except KdumpdError as error:
        blocked.append(str(error))
    image = state.image_of(root, release)
    on_disk = state.read(root, release)
    step = inputs = None
    if not blocked and facts.kernel.modules is not None:
        step = BuildImage(
            release=release,
            modules=facts.kernel.modules,
            policy_json=compiled.carried(policy),
            targets=tuple(capture_target(target) for target in targets),
            output=image,
            hostname=facts.hostname,
            boot=boot,
            dracut_modules=tuple(dict.fromkeys(name for target in targets for name in target.device.dracut_modules)),
            hands_off=hints.hands_off,
            reservation=facts.reservation if root == Path("/") else None,
            engine=policy.scan.engine.value,
            firmware=root / "lib" / "firmware",
        )
        try:
            inputs = build.inputs(step)
            if on_disk.manifest is not None and on_disk.manifest.inputs == inputs and load:
                # What is to be built is checked when it is there; this one is, and the reservation may be another.
                memory.check(on_disk.manifest.unpacked, facts.reservation, str(image))
        except KdumpdError as error:
            blocked.append(str(error))
    return Situation(
        facts=facts,
        state=on_disk,
        step=step,
        inputs=inputs,
        boot_reason=boot_reason,
        command_line=line,
        vmlinuz_sha256=state.sha256_of(facts.kernel.vmlinuz) if facts.kernel.vmlinuz else "",
        blocked=tuple(blocked),
        image=image,
        load=load,
        policy_file=file,
        nodes={target.path: target.node for target in targets},
        target_paths=tuple(target.path for target in policy.targets),
    )
