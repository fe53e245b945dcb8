"""The verbs, declared in one table: name, help, arguments, and the function that does the work.

The parser and its help are made from this table. A verb's function is named as `module:function` and imported when it
is called, so that one verb never pays for another's imports. May import the standard library alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Argument(NamedTuple):
    """One argument of a verb: its flag or position, and what argparse is told about it."""

    name: str
    options: dict[str, Any]


class Verb(NamedTuple):
    """A verb of the command line; `function` names (`module:name`) what maps the parsed arguments to an exit code."""

    name: str
    help: str
    function: str
    arguments: tuple[Argument, ...] = ()


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
    ),
    Verb(
        "plan",
        "show what apply would do, and why, changing nothing",
        "kdumpd.cli.plan:run",
        (POLICY, ROOT, JSON),
    ),
    Verb(
        "apply",
        "build what is stale, load it, and prove that it is loaded",
        "kdumpd.cli.apply:run",
        (POLICY, ROOT),
    ),
    Verb(
        "status",
        "tell whether this machine is armed, why not, and what is known of image, targets and crashes",
        "kdumpd.cli.status:run",
        (POLICY, JSON),
    ),
    Verb(
        "rehearse",
        "crash a throwaway VM with this policy, kernel and image, and verify the dump from outside",
        "kdumpd.cli.rehearse:run",
        (
            POLICY,
            _argument("--memory", metavar="SIZE", default="2G", help="the VM's memory (default %(default)s)"),
            _argument("--crashkernel", metavar="SIZE", default="128M", help="its reservation (default %(default)s)"),
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
    ),
    Verb("capture", "what the image runs inside the capture kernel", "kdumpd.cli.capture:run"),
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
    ),
    Verb(
        "verify",
        "read a dump whole: header, bitmaps, descriptors, every page",
        "kdumpd.cli.verify:run",
        (_argument("dump", metavar="DUMP", help="a dump in KDUMP format"), JSON),
    ),
    Verb(
        "info",
        "tell what a dump holds",
        "kdumpd.cli.info:run",
        (_argument("dump", metavar="DUMP", help="a dump in KDUMP format"), JSON),
    ),
    Verb(
        "dmesg",
        "print the crashed kernel's log",
        "kdumpd.cli.dmesg:run",
        (_argument("file", metavar="VMCORE/DUMP", help="an ELF vmcore or a dump in KDUMP format"),),
    ),
)
