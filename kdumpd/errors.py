"""Errors that a person can cause or meet: each prints as one line that says what, where and what to do.

Every module raises a subclass of `KdumpdError`; only the two outermost doors (cli, runner) turn one into a message
and an exit code. May import nothing of kdumpd.
"""


class KdumpdError(Exception):
    """Something a person has to know about, in one line; `exit_code` is what the command ends with."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split("\n")))


class UsageError(KdumpdError):
    """The command line itself is wrong."""

    exit_code = 2


class PolicyError(KdumpdError):
    """A policy is not valid; `problems` holds every error of the file, each one line."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems[0] if problems else "invalid policy")
        self.problems = problems


class VmcoreError(KdumpdError):
    """A vmcore (the crashed kernel's memory) cannot be read or makes no sense."""


class ScanError(KdumpdError):
    """The page scan cannot be done; the dump can still be written unfiltered."""


class DumpError(KdumpdError):
    """A dump cannot be written, or a dump file is damaged."""


class WorkerError(DumpError):
    """A process that wrote pages of a dump was killed."""


class TargetError(KdumpdError):
    """A target cannot be reached or cannot hold the dump; the next target may."""


class HostError(KdumpdError):
    """This machine lacks something that is needed, or a fact about it cannot be read."""


class ImageError(KdumpdError):
    """The capture image cannot be built or is not what its manifest says."""


class LoadError(KdumpdError):
    """The crash kernel cannot be loaded."""


class RehearsalError(KdumpdError):
    """A rehearsal could not be run, or the dump it made is not good."""
