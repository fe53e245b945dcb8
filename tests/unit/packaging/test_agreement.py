"""What the two kinds of packages say of kdumpd agrees, with each other and with docs/dependencies.md."""

from __future__ import annotations

import re
from pathlib import Path

import kdumpd

REPOSITORY = Path(__file__).parents[3]
PACKAGING = REPOSITORY / "packaging"
CONTROL = (PACKAGING / "debian/control").read_text()
SPEC = (PACKAGING / "rpm/kdumpd.spec").read_text()
DOCUMENT = (REPOSITORY / "docs/dependencies.md").read_text()


def field(name: str) -> dict[str, str]:
    """Package to bound (empty where there is none) of a field of kdumpd's stanza."""
    stanza = next(part for part in CONTROL.split("\n\n") if "\nPackage: kdumpd\n" in f"\n{part}\n")
    found = re.search(rf"^{name}: (.*(?:\n .*)*)", stanza, re.MULTILINE)
    assert found is not None
    clauses = [clause.strip() for clause in found[1].split(",")]
    pairs = (re.fullmatch(r"([a-z0-9.+-]+)(?: \(>= (?:\d+:)?([0-9.]+)\))?", clause) for clause in clauses)
    return {pair[1]: pair[2] or "" for pair in pairs if pair}


def tags(name: str) -> dict[str, str]:
    """Package to bound of a tag of the spec, the subpackage's left out."""
    own = SPEC.partition("%package dkms")[0]
    lines = re.findall(rf"^{name}: +(\S+)(?: >= (\S+))?$", own, re.MULTILINE)
    return dict(lines)


def documented(heading: str) -> dict[str, dict[str, str]]:
    """Distribution to package to bound, of the first table after a text."""
    _, _, rest = DOCUMENT.partition(heading)
    rows = [
        [cell.strip().replace("-", "") if cell.strip() == "-" else cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*$", rest.partition("\n\n")[2].partition("\n\n")[0], re.MULTILINE)[2:]
    ]
    return {"debian": {row[0]: row[2] for row in rows}, "fedora": {row[1]: row[2] for row in rows}}


def test_each_dependency_has_its_reason_and_the_same_bound() -> None:
    """The interpreter itself is what Debian's helper and rpm's generator add."""
    table = documented("ten years.")
    assert table["debian"].pop("python3") == table["fedora"].pop("python3") == "3.11"
    assert "X-Python3-Version: >= 3.11\n" in CONTROL
    assert field("Depends") == table["debian"]
    assert tags("Requires") == table["fedora"]
    weak = documented("dumps too, slower:")
    assert field("Recommends") == weak["debian"] == tags("Recommends") == weak["fedora"]
    for package in (*field("Suggests"), *tags("Suggests"), *field("Conflicts"), *tags("Conflicts")):
        assert f"`{package}`" in DOCUMENT


def test_every_library_of_the_project_is_a_dependency_of_its_packages() -> None:
    """With the bound that pyproject.toml has."""
    project = (REPOSITORY / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert block is not None
    libraries = dict(re.findall(r'"([A-Za-z]+)>=([0-9.]+)"', block[1]))
    assert {f"python3-{name.lower().removeprefix('py') if name == 'PyYAML' else name}" for name in libraries} <= set(
        field("Depends")
    )
    for name, bound in libraries.items():
        assert tags("Requires")[f"python3-{name.lower()}"] == bound


def test_the_version_is_one() -> None:
    """The program's, the project's, the DEB's and the RPM's."""
    project = re.search(r'^version = "(.*)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    debian = re.match(r"kdumpd \((.*)\) ", (PACKAGING / "debian/changelog").read_text())
    rpm = re.search(r"^Version: +(\S+)$", SPEC, re.MULTILINE)
    logged = re.search(r"^%changelog\n\*.* - (\S+)-\d+$", SPEC, re.MULTILINE)
    assert project is not None and debian is not None and rpm is not None and logged is not None
    assert {project[1], debian[1], rpm[1], logged[1]} == {kdumpd.__version__}


def test_the_modules_source_has_the_name_that_dkms_builds_it_by() -> None:
    """The spec cannot read kmod/dkms.conf: its files are named before there are any."""
    configuration = dict(re.findall(r'^(\w+)="(.*)"$', (REPOSITORY / "kmod/dkms.conf").read_text(), re.MULTILINE))
    found = dict(re.findall(r"^%global dkms_(\w+) (\S+)$", SPEC, re.MULTILINE))
    assert found == {"name": configuration["PACKAGE_NAME"], "version": configuration["PACKAGE_VERSION"]}


def test_each_filter_of_a_checker_stands_below_its_reason() -> None:
    """rpmlint's; lintian has none, and where it gets one it is here."""
    explained = ""
    for line in (PACKAGING / "rpm/rpmlint.toml").read_text().splitlines():
        if line.lstrip().startswith("#"):
            explained = line
        elif line.startswith("    "):
            assert explained, line
        else:
            explained = ""
    for overrides in (PACKAGING / "debian").glob("*lintian-overrides"):
        lines = overrides.read_text().splitlines()
        assert all(lines[at - 1].startswith("#") for at, line in enumerate(lines) if not line.startswith("#"))
