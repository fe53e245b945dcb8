"""Forked workers: run one function in several processes, hear from each, and leave none behind.

A worker reports messages through its own pipe and ends with "done"; a pipe that ends without it belongs to a worker
that died (killed for want of memory, SIGBUS on bad memory). Called by `dumpfile.writer`. May import `errors`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import sys
from collections.abc import Callable

from kdumpd.errors import DumpError, KdumpdError, WorkerError

FRAME = struct.Struct("=cH")  # kind of message, its size
MESSAGE, DONE, FAILED, ERRNO = b"M", b"D", b"F", b"E"
LONGEST = 2048  # bytes; a frame is written at once (PIPE_BUF)

Report = Callable[[bytes], None]


class Worker:
    """One process and our end of its pipe; `status` is its exit code as soon as it was waited for."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.pipe = pipe
        self.status: int | None = None

    def wait(self) -> int:
        """The exit code (below zero the signal that killed it); the pid means nothing any more."""
        if self.status is None:
            try:
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:
                self.status = 0  # somebody else waited for it
        return self.status

    def end(self) -> None:
        """Kill it where it may still run, and leave nothing of it."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.pipe)


def usable_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def run(jobs: int, work: Callable[[Report], None], receive: Report) -> None:
    """Call `work` in `jobs` processes until all have returned; every message they report is passed to `receive`.

    Raises the first worker's OSError, a DumpError with its other error, or a WorkerError with what killed it; whatever
    happens, no worker is left.
    """
    workers: dict[int, Worker] = {}
    try:
        for _ in range(jobs):
            worker = _start(work, tuple(workers))
            workers[worker.pipe] = worker
        _listen(dict(workers), receive)
    finally:
        for worker in workers.values():
            worker.end()


def _start(work: Callable[[Report], None], others: tuple[int, ...]) -> Worker:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return Worker(pid, read)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, signal.SIG_DFL)
        for pipe in (read, *others):
            os.close(pipe)
        work(lambda message: _send(write, MESSAGE, message))
        _send(write, DONE, b"")
    except OSError as error:
        _send(write, ERRNO, str(error.errno or errno.EIO).encode())
    except (KdumpdError, MemoryError) as error:
        _send(write, FAILED, (str(error) or "out of memory").encode(errors="replace"))
    finally:
        defect = sys.exc_info()[1]
        if defect is not None:
            _send(write, FAILED, f"internal error: {type(defect).__name__}: {defect}".encode(errors="replace"))
        os._exit(0)


def _send(pipe: int, kind: bytes, message: bytes) -> None:
    message = message[:LONGEST]
    try:
        os.write(pipe, FRAME.pack(kind, len(message)) + message)
    except BrokenPipeError:  # the parent has died: nobody is left to work for
        os._exit(1)


def _listen(open_workers: dict[int, Worker], receive: Report) -> None:
    received = dict.fromkeys(open_workers, b"")
    done: set[int] = set()
    while open_workers:
        for pipe in select.select(list(open_workers), [], [])[0]:
            data = os.read(pipe, 1 << 16)
            if not data:
                worker = open_workers.pop(pipe)
                if pipe not in done:
                    raise WorkerError(f"a worker {_cause_of_death(worker.wait())}")
                continue
            buffer = received[pipe] + data
            while len(buffer) >= FRAME.size:
                kind, size = FRAME.unpack_from(buffer)
                if len(buffer) < FRAME.size + size:
                    break
                message, buffer = buffer[FRAME.size : FRAME.size + size], buffer[FRAME.size + size :]
                if kind == FAILED:
                    raise DumpError(message.decode(errors="replace"))
                if kind == ERRNO:
                    raise OSError(int(message), os.strerror(int(message)))
                if kind == DONE:
                    done.add(pipe)
                else:
                    receive(message)
            received[pipe] = buffer


def _cause_of_death(status: int) -> str:
    """What a worker died of that ended with this status."""
    if status < 0:
        number = -status
        named = any(number == known.value for known in signal.Signals)  # real-time signals are not
        name = signal.Signals(number).name if named else f"signal {number}"
        return f"was killed by {name} (SIGKILL: out of memory, SIGBUS: memory that cannot be read)"
    return f"ended with status {status} without saying why"
