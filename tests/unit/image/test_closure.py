"""The import closure that an image carries."""

from __future__ import annotations

import ast
import encodings
from pathlib import Path

import pytest

from kdumpd.errors import ImageError
from kdumpd.image import closure


def package(tmp_path: Path, main: str, **others: str) -> closure.Program:
    root = tmp_path / "kdumpd"
    (root / "capture").mkdir(parents=True)
    for path in ("__init__.py", "capture/__init__.py"):
        (root / path).write_text("")
    (root / "capture/__main__.py").write_text(main)
    for name, text in others.items():
        (root / f"{name}.py").write_text(text)
    return closure.running()._replace(package=root)


def test_imports_inside_functions_count_and_those_for_the_type_checker_do_not(tmp_path: Path) -> None:
    of = package(
        tmp_path,
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import kdumpd.never\n"
        "def main():\n    import zlib\n    from kdumpd import late\n",
        late="try:\n    import no_such_module\nexcept ImportError:\n    pass\n",
        never="",
    )
    own, required, optional = closure.followed(of.package, of.entry)
    assert sorted(own) == ["kdumpd", "kdumpd.capture", "kdumpd.capture.__main__", "kdumpd.late"]
    assert required == {"typing", "zlib"}
    assert optional == {"no_such_module"}


def test_a_module_that_cannot_be_imported_stops_the_build_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No module named 'no_such_module'"):
        closure.closure(package(tmp_path, "import no_such_module\n"))


def test_a_package_without_the_runner_is_not_a_program(tmp_path: Path) -> None:
    of = package(tmp_path, "")
    (of.package / "capture/__main__.py").unlink()
    with pytest.raises(ImageError, match=r"has no kdumpd\.capture\.__main__"):
        closure.closure(of)


def test_the_runners_closure_has_nothing_that_a_capture_kernel_cannot_afford() -> None:
    found = {module.name for module in closure.closure(closure.running())}
    unaffordable = {"argparse", "logging", "subprocess", "pathlib", "site", "yaml", "elftools", "rich", "jsonschema"}
    assert not found & unaffordable
    # 4.8 MB of libcrypto hang on these.
    assert not found & {"_hashlib", "_ssl", "hashlib"}
    assert {"kdumpd.capture.runner", "kdumpd.scan.user", "kdumpd.dumpfile.writer", "zstandard"} <= found


def test_every_encoding_that_the_runner_names_is_carried() -> None:
    of = closure.running()
    own, _, _ = closure.followed(of.package, of.entry)
    named: set[str] = set()
    for path in own.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "encoding" and isinstance(node.value, ast.Constant):
                named.add(str(node.value.value))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if node.func.attr in ("encode", "decode") and isinstance(first, ast.Constant):
                    named.add(str(first.value))
    carried = {name.removeprefix("encodings.") for name in closure.CODECS}
    assert {encodings.normalize_encoding(name).lower() for name in named} <= carried
