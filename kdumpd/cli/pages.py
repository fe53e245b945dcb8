"""What the man pages say beyond the verb table: files, examples, and where else to look.

Called by `cli.manual`. May import the standard library alone. In every text, `words` in backticks are set bold.
"""

from __future__ import annotations

from typing import NamedTuple

#: What a file is for, by its path.
FILES = {
    "/etc/kdumpd.yaml": "the policy, kdumpd.yaml(5)",
    "/var/lib/kdumpd/RELEASE/capture.img": "the capture image of a kernel; beside it its manifest, the policy that it "
    "carries",
    "/var/lib/kdumpd/RELEASE/load.json": "how that image is loaded at the next boot, before kdumpd.service runs",
    "/var/lib/kdumpd/loaded.json": "what was loaded last, and in which boot",
    "/var/lib/kdumpd/lock": "held by whatever changes something; names the process",
    "/var/crash/HOST-YYYYMMDD-HHMMSS/": "a dump, where the policy names no other target: vmcore, dmesg.txt, "
    "capture.log, kdumpd.json",
    "/usr/share/kdumpd/kdumpd.schema.json": "the JSON Schema of the policy, for editors",
}
POLICY, IMAGE, LOAD, LOADED, LOCK, DUMP, SCHEMA = FILES


class Example(NamedTuple):
    """A command as it is typed, and what it does."""

    command: str
    does: str


class Page(NamedTuple):
    """What one verb's page has of its own; `see` are pages besides kdumpd(8) and kdumpd.yaml(5)."""

    files: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    see: tuple[str, ...] = ()


PAGES = {
    "check": Page(
        (POLICY, SCHEMA),
        (
            Example("kdumpd check", "every error in /etc/kdumpd.yaml"),
            Example("kdumpd check new.yaml && install -m 0644 new.yaml /etc/kdumpd.yaml", "a policy put in place"),
        ),
        ("kdumpd-plan(8)",),
    ),
    "plan": Page(
        (POLICY, IMAGE, LOADED),
        (
            Example("kdumpd plan", "what apply would do, and why"),
            Example("kdumpd plan --json | jq -r '.steps[].reasons[]'", "the reasons alone"),
        ),
        ("kdumpd-apply(8)", "kdumpd-status(8)"),
    ),
    "apply": Page(
        (POLICY, IMAGE, LOAD, LOADED, LOCK),
        (
            Example("kdumpd apply", "arms this machine"),
            Example("kdumpd apply --root /mnt", "the image of a system that an installer has mounted there"),
        ),
        ("kdumpd-plan(8)", "kdumpd-status(8)", "kexec(8)", "dracut(8)"),
    ),
    "status": Page(
        (POLICY, IMAGE, LOADED),
        (
            Example("kdumpd status", "armed or not, and why not"),
            Example("kdumpd status --json | jq .armed", "the same, for a program"),
        ),
        ("kdumpd-plan(8)", "systemctl(1)"),
    ),
    "disarm": Page(
        (LOADED, LOCK),
        (Example("kdumpd disarm", "no crash kernel is loaded, until kdumpd apply or the next boot"),),
        ("kdumpd-apply(8)", "kdumpd-status(8)"),
    ),
    "service": Page((POLICY, IMAGE, LOADED), (), ("kdumpd-status(8)", "systemctl(1)", "journalctl(1)")),
    "list": Page(
        (DUMP,),
        (Example("kdumpd list", "the dumps on the local targets"),),
        ("kdumpd-info(8)", "kdumpd-prune(8)", "kdumpd-verify(8)"),
    ),
    "prune": Page(
        (POLICY, DUMP),
        (
            Example("kdumpd prune --dry-run", "what would go"),
            Example("kdumpd prune", "the policy's retention, now"),
        ),
        ("kdumpd-list(8)",),
    ),
    "rehearse": Page(
        (POLICY, IMAGE),
        (
            Example("kdumpd rehearse", "this policy on the running kernel"),
            Example("kdumpd rehearse --panic oom --output /var/tmp/oom", "out of memory; what was made is kept"),
            Example(
                "kdumpd rehearse --kernel linux-image-amd64=6.1 --memory 4G --crashkernel 192M",
                "on a kernel of Debian, in a larger machine",
            ),
        ),
        ("kdumpd-verify(8)", "qemu-system-x86_64(1)"),
    ),
    "capture": Page((), (), ("kdumpd-apply(8)",)),
    "dump": Page(
        (),
        (
            Example("kdumpd dump /proc/vmcore /mnt/vmcore", "in a capture kernel, by hand"),
            Example(
                "kdumpd dump --level 17 --compression zstd:9 guest-memory.elf vmcore", "a virtual machine's memory"
            ),
        ),
        ("kdumpd-verify(8)", "crash(8)", "makedumpfile(8)"),
    ),
    "verify": Page(
        (DUMP,),
        (Example("kdumpd verify /var/crash/*/vmcore", "the only dump there is, whole"),),
        ("kdumpd-info(8)", "kdumpd-dump(8)"),
    ),
    "info": Page(
        (DUMP,),
        (Example("kdumpd info --json vmcore | jq -r .panic", "what the kernel died of"),),
        ("kdumpd-dmesg(8)", "kdumpd-verify(8)", "crash(8)"),
    ),
    "dmesg": Page(
        (DUMP,),
        (Example("kdumpd dmesg vmcore | tail -n 40", "the end of the crashed kernel's log"),),
        ("kdumpd-info(8)", "dmesg(1)"),
    ),
}

#: The page of kdumpd itself.
DESCRIPTION = """\
kdumpd saves the memory of a Linux kernel that crashes. One policy, `/etc/kdumpd.yaml`, says what is saved and where; \
kdumpd builds a capture image for it, loads it as the crash kernel, and the dump that it writes after a crash gets its \
name only when it is complete and synced.

Memory has to be reserved for the crash kernel: `crashkernel=192M` on the kernel's command line, then a restart. Until \
then nothing can be armed, and plan, apply and status say so.

The service, `kdumpd.service`, keeps the machine armed: it carries out the plan whenever policy, kernel or hardware \
change. `kdumpd-armed.service` is active while the machine is armed and failed while it should be and is not. \
`kdumpd-early.service`, or the initramfs where the policy's key `early` asks for it, loads the last good image at boot \
before the file systems are mounted."""

EXAMPLES = (
    Example("kdumpd check", "is the policy right?"),
    Example("kdumpd plan", "what would change, and why?"),
    Example("kdumpd apply", "arm this machine"),
    Example("kdumpd rehearse", "crash a virtual machine with the same image, and verify its dump"),
    Example("kdumpd verify /var/crash/HOST-20261124-120000/vmcore", "after a crash: is the dump whole?"),
)
SEE = ("crash(8)", "drgn(1)", "kexec(8)", "makedumpfile(8)", "systemctl(1)")
