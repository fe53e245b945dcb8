"""The kernel's own style checker, taken out of Debian's package of the kernel's source.

Called by tests; imports rehearse.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from kdumpd.rehearse.packages import CACHE, Archive, Say, new_folder

PACKAGE = "linux-source-6.12"
MEMBER = "./usr/src/linux-source-6.12.tar.xz"
FILES = ("scripts/checkpatch.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch")
COLUMNS = 100


def checkpatch(say: Say = lambda line: None) -> Path:
    """checkpatch.pl with the lists that it reads, in the cache."""
    archive = Archive("amd64", CACHE, say)
    kept = sorted((CACHE / "packages").glob(f"checkpatch_{PACKAGE}_*"))
    if kept:
        return kept[-1] / "scripts/checkpatch.pl"
    version = archive.choose(PACKAGE).version
    final = CACHE / "packages" / f"checkpatch_{PACKAGE}_{version}"
    with new_folder(final) as made:
        source = made / "source.tar.xz"
        archive.extract(PACKAGE, version, MEMBER, source)
        with tarfile.open(source) as tar:
            wanted = set(FILES)
            for entry in tar:
                inside = entry.name.partition("/")[2]
                if inside in wanted:
                    (made / inside).parent.mkdir(exist_ok=True)
                    content = tar.extractfile(entry)
                    assert content is not None
                    (made / inside).write_bytes(content.read())
                    wanted.remove(inside)
                if not wanted:
                    break
        source.unlink()
    return final / "scripts/checkpatch.pl"


def complaints(files: Iterable[Path], ignored: Iterable[str] = (), say: Say = lambda line: None) -> tuple[str, ...]:
    """What checkpatch says of these files with --strict, a line each."""
    options = ["--no-tree", "--strict", "--terse", "--no-summary", "--show-types", f"--max-line-length={COLUMNS}"]
    options += [f"--ignore={','.join(ignored)}"] if ignored else []
    command = ["perl", str(checkpatch(say)), *options, "--file", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return tuple(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
