"""Debian packages fetched and unpacked beside the system: nothing is installed, the machine's own apt is not touched.

A private apt configuration under `~/.cache/kdumpd/apt` adds the other suites of the mirror that this machine's own
sources name, verified with the keyring those sources name. Called by `kernels` and by the test lab; imports errors.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdumpd"

# Where kernels of different ages come from. A suite that the mirror does not carry is passed over.
SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "testing", "sid")
SECURITY_SUITES = ("bullseye-security", "bookworm-security", "trixie-security")
KEYRING_PACKAGE = "debian-archive-keyring"
KEY_IS_MISSING = ("NO_PUBKEY", "Missing key")  # as gpgv says it, and sqv from apt 3 on
KEYRING_FILES = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
WORTH_SAYING = 10_000_000  # bytes
LISTS_STAY_FRESH = 7 * 24 * 3600  # seconds

Say = Callable[[str], None]


class Source(NamedTuple):
    """One apt source: `signed_by` as the source gives it (a path, or a key block of several lines), or empty."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str


class Candidate(NamedTuple):
    """One version of a package that the mirror offers, and the suite that offers it."""

    version: str
    suite: str


def one_line_sources(text: str) -> Iterator[Source]:
    """The `deb` lines of a sources.list."""
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if found:
            options = dict(option.partition("=")[::2] for option in (found[1] or "").split())
            yield Source(found[2], found[3], tuple(found[4].split()), options.get("signed-by", ""))


def deb822_sources(text: str) -> Iterator[Source]:
    """The enabled `deb` stanzas of a .sources file, one value for each URI and suite."""
    for stanza in re.split(r"\n\s*\n", "\n".join(line for line in text.splitlines() if not line.startswith("#"))):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')}\n{line}"
            else:
                name, _, value = line.partition(":")
                name = name.lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by", ""))


def machine_sources(folder: Path = Path("/etc/apt")) -> tuple[Source, ...]:
    """Every source of this machine's apt, in apt's order."""
    found: list[Source] = []
    parts = folder / "sources.list.d"
    for path in (folder / "sources.list", *(sorted(parts.iterdir()) if parts.is_dir() else ())):
        if path.suffix == ".list" and path.is_file():
            found += one_line_sources(path.read_text(errors="replace"))
        elif path.suffix == ".sources" and path.is_file():
            found += deb822_sources(path.read_text(errors="replace"))
    return tuple(found)


def debian_mirrors(sources: tuple[Source, ...]) -> tuple[Source, Source | None]:
    """The source of Debian itself and that of its security updates; HostError when apt has no Debian mirror.

    Others publish suites under Debian's code names too; only Debian pairs a suite with its `-updates` and has `main`.
    """
    own = [source for source in sources if "main" in source.components]
    security = next((source for source in own if source.suite.endswith(("-security", "/updates"))), None)
    names = {*SUITES, "stable", "oldstable", "unstable", "forky", "duke"}
    debian = [source for source in own if source.suite.removesuffix("-updates") in names]
    if not debian:
        raise HostError(
            "/etc/apt: no source of Debian's `main` found; kernels are fetched from the mirror that apt uses, "
            "so add one (man sources.list)"
        )
    updates = [source for source in debian if source.suite.endswith("-updates")]
    return (updates or debian)[0], security


def render_sources(debian: Source, security: Source | None, signed_by: str | None = None) -> str:
    """The private .sources file: every suite above, from the machine's mirrors."""
    stanzas = [(debian, SUITES)] + ([(security, SECURITY_SUITES)] if security else [])
    text = ""
    for source, suites in stanzas:
        key = source.signed_by if signed_by is None else signed_by
        text += f"Types: deb\nURIs: {source.uri}\nSuites: {' '.join(suites)}\nComponents: main\n"
        text += f"Signed-By: {key}\n\n" if key else "\n"
    return text


def fits(version: str, wanted: str) -> bool:
    """True when `version` is `wanted` or a version of that series: 6.1.192-2 fits 6.1, 6.12.117-1 does not."""
    rest = version.removeprefix(wanted)
    return not wanted or (version.startswith(wanted) and not rest[:1].isalnum())


class Archive:
    """The mirror's packages of one architecture, through a private apt; `say` is told what takes time."""

    def __init__(self, architecture: str = "amd64", cache: Path = CACHE, say: Say = lambda line: None) -> None:
        self.architecture = architecture
        self.cache = cache
        self.say = say
        self.folder = cache / "apt" / architecture

    def candidates(self, package: str) -> tuple[Candidate, ...]:
        """The versions of `package` on the mirror, newest first; empty when there is none."""
        self.refresh()
        return self._madison(package)

    def choose(self, package: str, version: str = "") -> Candidate:
        """The newest version that is or begins with `version` (`6.12`: 6.12.117-1); HostError says what there is."""
        offered = self.candidates(package)
        for candidate in offered:
            if fits(candidate.version, version):
                return candidate
        if offered:
            raise HostError(
                f"{package}={version}: the mirror has no such version; "
                f"it has {', '.join(dict.fromkeys(candidate.version for candidate in offered))}"
            )
        raise HostError(f"{package}: the mirror has no such package ({self.architecture}); check the name")

    def depends(self, package: str, version: str) -> tuple[str, ...]:
        """The first alternative of each package that `package` depends on, without versions."""
        text = self._apt("apt-cache", "show", f"{package}={version}")
        found = re.search(r"^Depends: (.*)$", text, re.MULTILINE)
        clauses = found[1].split(",") if found else []
        return tuple(dict.fromkeys(re.split(r"[\s(|:]", clause.strip(), maxsplit=1)[0] for clause in clauses))

    def unpack(self, packages: dict[str, str], folder: Path) -> None:
        """The files of these packages (name to version) lie under `folder`; nothing of them was run."""
        with self._downloaded(packages) as debs:
            for deb in debs:
                if deb.stat().st_size > WORTH_SAYING:
                    self.say(f"unpacking {deb.name} ({deb.stat().st_size / 1e6:.0f} MB)")
                run(["dpkg-deb", "-x", str(deb), str(folder)])

    def extract(self, package: str, version: str, member: str, path: Path) -> None:
        """One file of a package, `member` as dpkg-deb lists it, lies at `path`."""
        with self._downloaded({package: version}) as debs:
            self.say(f"extracting {member} of {debs[0].name}")
            tree = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(debs[0])], stdout=subprocess.PIPE)
            with tree, tarfile.open(fileobj=tree.stdout, mode="r|") as tar, path.open("wb") as file:
                content = next((tar.extractfile(entry) for entry in tar if entry.name == member), None)
                if content is None:
                    raise HostError(f"{debs[0].name}: has no {member}")
                shutil.copyfileobj(content, file, 1 << 20)
                tree.kill()

    def fetch(self, packages: dict[str, str], name: str) -> Path:
        """A folder `~/.cache/kdumpd/packages/NAME` with these packages (name to version) unpacked; made once."""
        folder = self.cache / "packages" / name
        if not folder.is_dir():
            with new_folder(folder) as made:
                self.unpack(packages, made)
        return folder

    def refresh(self, now: bool = False) -> None:
        """The private package lists are there, at most a week old; older ones serve when the mirror is out of reach."""
        with (self._made(self.folder) / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refresh(now)

    def _refresh(self, now: bool) -> None:
        stamp = self.folder / "refreshed"
        if not now and stamp.is_file() and time.time() - stamp.stat().st_mtime < LISTS_STAY_FRESH:
            return
        if shutil.which("apt-get") is None:
            raise HostError("apt-get: not found; fetching a kernel package needs Debian's apt, or name a --kernel path")
        debian, security = debian_mirrors(machine_sources())
        sources = self._made(self.folder) / "private.sources"
        sources.write_text(render_sources(debian, security))
        self.say(f"reading the package lists of {debian.uri}")
        complaints = self._update()
        if any(word in complaints for word in KEY_IS_MISSING) and self._has_lists():
            # The machine's keyring is older than a suite's key: a suite that it does verify has the newer keyring.
            keyring = self._newer_keyring()
            self.say(f"{KEYRING_PACKAGE} here is older than a suite's key; going on with {keyring}")
            sources.write_text(render_sources(debian, security, signed_by=str(keyring)))
            complaints = self._update()
        for line in complaints.splitlines():
            if line.startswith("E: ") and "/dists/" in line:
                self.say(f"passed over: {line.removeprefix('E: ')}")
        if not self._has_lists():
            reason = next((line for line in complaints.splitlines() if line.startswith(("E:", "W:"))), "no answer")
            raise HostError(
                f"{debian.uri}: the package lists cannot be read ({reason}); "
                "check the network and the mirror, or name a kernel that is installed or already fetched"
            )
        stamp.touch()

    @contextmanager
    def _downloaded(self, packages: dict[str, str]) -> Iterator[list[Path]]:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self._made(self.folder)) as scratch:
            for package, version in packages.items():
                self.say(f"fetching {package} {version} ({self.architecture})")
            wanted = [f"{package}={version}" for package, version in packages.items()]
            self._apt("apt-get", "download", "-q", *wanted, cwd=Path(scratch))
            yield sorted(Path(scratch).glob("*.deb"))

    def _update(self) -> str:
        done = subprocess.run(
            ["apt-get", "update", "-q", *self._options()],
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
        return done.stderr

    def _has_lists(self) -> bool:
        return any((self.folder / "lists").glob("*_Packages*"))

    def _newer_keyring(self) -> Path:
        version = next(iter(self._madison(KEYRING_PACKAGE)), Candidate("", "")).version
        if not version:
            raise HostError(
                f"{KEYRING_PACKAGE}: not on the mirror; the keys of newer suites cannot be verified without it"
            )
        folder = self.fetch({KEYRING_PACKAGE: version}, f"{KEYRING_PACKAGE}_{version}")
        for name in KEYRING_FILES:
            keyring = folder / "usr/share/keyrings" / name
            if keyring.is_file():
                return keyring
        raise HostError(f"{folder}: the package has none of {', '.join(KEYRING_FILES)}; update {KEYRING_PACKAGE}")

    def _madison(self, package: str) -> tuple[Candidate, ...]:
        rows = [line.split("|") for line in self._apt("apt-cache", "madison", package).splitlines()]
        return tuple(Candidate(row[1].strip(), row[2].split()[1].partition("/")[0]) for row in rows if len(row) == 3)

    def _apt(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        return run([program, *self._options(), *arguments], cwd=cwd)

    def _options(self) -> list[str]:
        lists, archives = self._made(self.folder / "lists"), self._made(self.folder / "cache")
        status = self.folder / "status"
        status.touch()
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Sandbox::User": "root",  # the cache lies in a home folder that apt's own user may not enter
            "Acquire::GzipIndexes": "true",
            # Container images turn these off; without them every call of apt-cache parses the lists anew, for seconds.
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::Cache": str(archives),
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::Etc::SourceList": str(self.folder / "private.sources"),
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": str(lists),
            "Dir::State::Status": str(status),
        }
        return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")] + [
            "-o",
            f"APT::Architectures::={self.architecture}",
        ]

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A folder to fill that appears as `final` only when the block ends well."""
    final.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        made.chmod(0o755)
        yield made
        try:
            made.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was faster, with the same contents
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def run(command: list[str], cwd: Path | None = None) -> str:
    """What the program printed; HostError with its last error line when it fails or is missing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=_environment(), check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise HostError(f"{command[0]}: not found; install the package that has it") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise HostError(f"{command[0]} {command[-1]}: {lines[-1]}")
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
