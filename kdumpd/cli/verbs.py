"""The verbs, declared in one table: name, help, arguments, exit codes, and the function that does the work.

The parser and its help, the man pages (`cli.manual`) and the completions (`cli.completion`) are made from this table. A
verb's function is named as `module:function` and imported when it is called, so that one verb never pays for another's
imports. May import the standard library alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Argument(NamedTuple):
    """One argument of a verb: its flag or position, and what argparse is told about it."""

    name: str
    options: dict[str, Any]


class Exit(NamedTuple):
    """What an exit code of a verb means."""

    code: int
    meaning: str


class Verb(NamedTuple):
    """A verb of the command line; `function` names (`module:name`) what maps the parsed arguments to an exit code.

    `description` is what its man page says beyond `help`, paragraphs apart by an empty line.
    """

    name: str
    help: str
    function: str
    arguments: tuple[Argument, ...] = ()
    exits: tuple[Exit, ...] = ()
    description: str = ""


def _argument(name: str, **options: Any) -> Argument:
    return Argument(name, options)


JSON = _argument("--json", action="store_true", help="print JSON instead of text")
POLICY = _argument("--policy", metavar="FILE", default="/etc/kdumpd.yaml", help="the policy (default %(default)s)")
ROOT = _argument(
    "--root",
    metavar="DIR",
    default="/",
    help="for installers: the system mounted at DIR, on this machine's disks; its image is built, never loaded "
    "(default %(default)s)",
)

ERROR = Exit(1, "an error, in one line that says what, where and what to do")
#: Every verb's.
USAGE = Exit(2, "the command line is wrong")

VERBS: tuple[Verb, ...] = (
    Verb(
        "check",
        "validate a policy and print every error in it",
        "kdumpd.cli.check:run",
        (
            _argument(
                "file", nargs="?", metavar="FILE", default="/etc/kdumpd.yaml", help="the policy (default %(default)s)"
            ),
        ),
        exits=(Exit(0, "the policy is valid"), Exit(1, "it is not, or cannot be read")),
        description=(
            "Every error of the file is printed in one run, on standard error, as FILE:LINE:COLUMN: path.to.key: "
            "what is wrong; what would be right. An unknown key is an error, with the nearest known one. Nothing "
            "is asked of the machine: a policy can be checked anywhere."
        ),
    ),
    Verb(
        "plan",
        "show what apply would do, and why, changing nothing",
        "kdumpd.cli.plan:run",
        (POLICY, ROOT, JSON),
        exits=(
            Exit(0, "nothing to do"),
            Exit(3, "there are changes, which apply would make"),
            Exit(1, "an error, or something stands in the way of any plan"),
        ),
        description=(
            "Each step is printed with every reason for it: the key of the policy that changed, the kernel, a "
            "driver of a target's disk, a file in the image that is another one, an image that is damaged, a "
            "crash kernel that something else loaded. After apply there is nothing to do.\n\n"
            "What stands in the way of any plan (no reservation, no kexec, a target that the image cannot reach) "
            "is told on standard error, all of it in one run."
        ),
    ),
    Verb(
        "apply",
        "build what is stale, load it, and prove that it is loaded",
        "kdumpd.cli.apply:run",
        (
            POLICY,
            ROOT,
            _argument(
                "--kernel",
                metavar="RELEASE",
                help="build the image of this installed kernel and nothing else: for the hooks of kernel packages",
            ),
            JSON,
        ),
        exits=(
            Exit(0, "armed: the image is in place and the kernel says that it is loaded; --root, --kernel: built"),
            ERROR,
        ),
        description=(
            "Prints the plan and carries it out, under one lock: a second apply waits, and says for whom. The "
            "image is built beside the old one and takes its place in one step, so that a build that fails or is "
            "cut leaves the old one. The crash kernel is loaded by kexec_file_load, or by kexec_load where the "
            "kernel refuses that, and the refusal is told; then the kernel is asked whether one is loaded, and the "
            "reserved memory is looked at.\n\n"
            "Where a kernel newer than the running one is installed, its image is built too. A policy that is not "
            "valid is refused, and the last good one stays armed.\n\n"
            "What was loaded is recorded beside the image as well: kdumpd-early.service loads it at the next boot "
            "before the file systems are mounted."
        ),
    ),
    Verb(
        "status",
        "tell whether this machine is armed, why not, and what is known of image, targets and crashes",
        "kdumpd.cli.status:run",
        (POLICY, JSON),
        exits=(Exit(0, "armed"), Exit(3, "not armed"), ERROR),
        description=(
            "The first line says armed, or not armed and why. Armed means that the crash kernel that is loaded is "
            "the one that this policy, this kernel and this hardware call for (plan has nothing to do), and that a "
            "target could hold its dump when they were tried last. Under a policy that is not valid the last good "
            "one is what armed means, and the problem is said with its line and column.\n\n"
            "Below come the kernel, the image, the policy, each target with its last proof, the last crash, the last "
            "rehearsal and whether it was of this kernel and image, and the service. Nobody else is asked, so it works "
            "without the service. Any user may ask; who is not root is told what could not be read."
        ),
    ),
    Verb(
        "disarm",
        "unload the crash kernel, until apply or the next boot",
        "kdumpd.cli.disarm:run",
        (JSON,),
        exits=(Exit(0, "no crash kernel is loaded"), ERROR),
        description=(
            "The kernel itself confirms that nothing is loaded. kdumpd.service leaves it so, and status says that "
            "the machine was disarmed; apply arms it again, and so does the next boot."
        ),
    ),
    Verb(
        "rehearse",
        "crash a throwaway VM with this policy, kernel and image, and verify the dump from outside",
        "kdumpd.cli.rehearse:run",
        (
            POLICY,
            _argument("--memory", metavar="SIZE", default="2G", help="the VM's memory (default %(default)s)"),
            _argument(
                "--crashkernel",
                metavar="SIZE",
                help="its reservation (default: this machine's own for the image that it is armed with, else 128M)",
            ),
            _argument(
                "--kernel",
                metavar="KERNEL",
                help="a release installed here, a path, or Debian PACKAGE=VERSION to fetch",
            ),
            _argument(
                "--panic",
                choices=("sysrq", "nmi", "oops", "oom"),
                default="sysrq",
                help="how it crashes (default %(default)s)",
            ),
            _argument("--output", metavar="DIR", help="keep the dump, the console log and what else was made here"),
            _argument(
                "--keep-memory",
                action="store_true",
                help="when the VM hangs, save its memory too (guest-memory.elf; needs --output)",
            ),
            JSON,
        ),
        exits=(Exit(0, "the dump was made and everything that was judged is good"), ERROR),
        description=(
            "Boots a machine under QEMU, with KVM where that works, fills its memory with known amounts of each "
            "kind of page, crashes it, lets the real capture run and judges the dump from outside: it verifies, "
            "it holds what the level keeps and nothing of what it leaves out, the log and the panic message are "
            "there. Nothing of the host is changed or mounted.\n\n"
            "The image is the one that this machine is armed with, byte for byte, if it is for this kernel and "
            "this policy; what a VM needs beside it lies in a second initrd. Else it is built for the occasion. For "
            "an armed image the VM's disks have the UUIDs, the file systems and, where QEMU emulates it, the disk "
            "controller of the host's targets, and the result is kept for kdumpd status. What a VM cannot prove is "
            "said with the verdict."
        ),
    ),
    Verb(
        "service",
        "what kdumpd.service runs: keep this machine armed, and say at any time whether it is",
        "kdumpd.cli.service:run",
        exits=(Exit(0, "it was asked to end"), ERROR),
        description=(
            "Stays resident and sees what changes: the policy, the image, the kernel's files, disks, processors, "
            "memory, the loaded crash kernel. It has apply put right what is stale, and says what it knows in "
            "systemctl status kdumpd, in the journal (KDUMPD_EVENT, KDUMPD_REASON), and by kdumpd-armed.service, which "
            "is active while the machine is armed and failed while it is not. A policy that is not valid leaves the "
            "last good one in force. When it ends, what is loaded stays loaded."
        ),
    ),
    Verb(
        "capture",
        "what the image runs inside the capture kernel",
        "kdumpd.cli.capture:run",
        exits=(Exit(1, "this is no capture kernel; in one it does not return"),),
        description=(
            "The runner: it saves the crashed kernel's log, then the dump, on the first target that takes it, and "
            "ends the machine with the action that the policy names. On a machine in use it refuses to start. The "
            "image starts it as python -m kdumpd.capture."
        ),
    ),
    Verb(
        "dump",
        "filter and write a dump from any ELF vmcore",
        "kdumpd.cli.dump:run",
        (
            _argument("vmcore", metavar="VMCORE", help="an ELF vmcore, such as /proc/vmcore"),
            _argument("output", metavar="OUT", help="the file to write; it must not exist"),
            _argument(
                "--level",
                default="31",
                metavar="N",
                help="dump level 0..31: 1 zero, 2 cache, 4 private cache, 8 user, 16 free (default %(default)s)",
            ),
            _argument(
                "--compression", default="zstd", metavar="KIND[:LEVEL]", help="zstd, zlib or none (default %(default)s)"
            ),
            _argument(
                "--engine",
                choices=("auto", "kernel", "user"),
                default="auto",
                help="what scans the pages; kernel only on /proc/vmcore (default %(default)s)",
            ),
            _argument("--jobs", default="auto", metavar="N", help="worker processes, or auto (default)"),
            _argument("--format", choices=("kdump",), default="kdump", help="file format (default %(default)s)"),
            JSON,
        ),
        exits=(Exit(0, "the dump is complete"), ERROR),
        description=(
            "The dump is in the KDUMP format (compressed kdump), which crash, drgn and makedumpfile read. Pages "
            "that the level leaves out are found as in the capture image. The file gets its name when it is "
            "complete and synced; while it is written it has the ending .incomplete, and a failure leaves nothing "
            "of it, unless the vmcore would be gone with a reboot."
        ),
    ),
    Verb(
        "list",
        "show the dumps on the local targets",
        "kdumpd.cli.list_dumps:run",
        (POLICY, JSON),
        exits=(
            Exit(0, "the dumps were listed, be there any or none"),
            Exit(1, "an error; a target or record that could not be read, after what could"),
        ),
        description=(
            "The newest first: the time of the crash, what became of its dump, its size on the disk, its directory, "
            "and below that the host, the kernel and the panic. complete: read whole since, and good. unverified: "
            "whole by its name, not read since, or not to be read then. incomplete: the capture did not come to "
            "a whole dump. damaged: does not read. foreign: another program's, or not only root's; kdumpd never "
            "removes those. No dump is read whole for this: the service reads each once, after the crash."
        ),
    ),
    Verb(
        "prune",
        "remove the dumps that the policy's retention does not keep",
        "kdumpd.cli.prune:run",
        (
            POLICY,
            _argument("--dry-run", action="store_true", help="say what would be removed, and why, and remove nothing"),
            JSON,
        ),
        exits=(Exit(0, "what had to go is gone, or nothing had to"), Exit(1, "an error, or a dump that would not go")),
        description=(
            "Each dump that goes is named with the reason. A target's newest complete dump never goes, nor one that "
            "the service has not looked at yet, nor what other programs left there."
        ),
    ),
    Verb(
        "verify",
        "read a dump whole: header, bitmaps, descriptors, every page",
        "kdumpd.cli.verify:run",
        (_argument("dump", metavar="DUMP", help="a dump in KDUMP format"), JSON),
        exits=(
            Exit(0, "complete, and every page can be read"),
            Exit(1, "incomplete, damaged, or not to be checked; the line says which"),
        ),
        description=(
            "Reads the dump from its first to its last byte: the header, both bitmaps, every "
            "descriptor; every page is decompressed, and held against its checksum where the dump has one. A dump "
            "that another program wrote is read as well; pages compressed by LZO or snappy are told as unchecked."
        ),
    ),
    Verb(
        "info",
        "tell what a dump holds",
        "kdumpd.cli.info:run",
        (_argument("dump", metavar="DUMP", help="a dump in KDUMP format"), JSON),
        exits=(Exit(0, "it is a dump, complete or not"), ERROR),
        description=(
            "The kernel's release, the host, the time of the crash, the panic message, the level and what it left "
            "out, the compression, the memory and its pages by kind."
        ),
    ),
    Verb(
        "dmesg",
        "print the crashed kernel's log",
        "kdumpd.cli.dmesg:run",
        (_argument("file", metavar="VMCORE/DUMP", help="an ELF vmcore or a dump in KDUMP format"),),
        exits=(Exit(0, "the log was printed"), ERROR),
        description=(
            "The log is found by the symbols of VMCOREINFO, without debug symbols, in the record format of old "
            "kernels and in the ring buffer of new ones, and printed byte for byte as "
            "makedumpfile --dump-dmesg (1.7.5 and newer) writes it."
        ),
    ),
)
