"""The interpreter's own tree in the image: the executable, sourceless .pyc, extension modules and shared libraries.

    /usr/lib/kdumpd/bin/python3                    the executable; it finds its standard library by its own place
    /usr/lib/kdumpd/lib/python3.X/*.pyc            standard library, kdumpd and zstandard: no site-packages, no site
    /usr/lib/kdumpd/lib/python3.X/lib-dynload      extension modules of the standard library
    /usr/lib/kdumpd/capture                        what PID 1 or the unit runs (`build` makes it executable)

Called by `image.build`. May import `host` and `errors`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from kdumpd.errors import ImageError
from kdumpd.host import program
from kdumpd.image import libraries
from kdumpd.image.closure import Module, Program

HOME = "usr/lib/kdumpd"
EXECUTABLE = f"{HOME}/bin/python3"
RUNNER = f"{HOME}/capture"
LIBRARY = f"{HOME}/lib/python{sys.version_info.major}.{sys.version_info.minor}"
DYNLOAD = f"{LIBRARY}/lib-dynload"

#: -I no environment and no user site, -S no site module, -B write no .pyc; a #! line has room for one argument.
_RUNNER_TEXT = "#!/{executable} -ISB\nfrom {entry} import main\n\nraise SystemExit(main())\n"

#: What the interpreter looks for to know its standard library (Modules/getpath.py, STDLIB_LANDMARKS).
_LANDMARK = "os"

#: Where the dynamic loader looks without a cache; libraries that an interpreter keeps elsewhere go to the first.
_DEFAULT_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")


def _place_link_chain(source: Path, staging: Path, folder: str | None) -> None:
    """A library under every name that its symbolic links give it, in `folder` or at its own place."""
    here = Path(os.path.realpath(source.parent)) / source.name
    destination = staging / (folder or str(here.parent)).lstrip("/") / here.name
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.exists() or destination.is_symlink():
        return
    if here.is_symlink() and folder is None:
        target = here.readlink()
        _place_link_chain(here.parent / target, staging, None)
        destination.symlink_to(target)
    else:
        shutil.copyfile(here, destination)
        # dracut strips what is executable.
        destination.chmod(0o755)


def stage_libraries(files: tuple[Path, ...], staging: Path) -> None:
    """Every shared library that these files need lies in the staging tree, where the loader looks for it."""
    for library in libraries.needed(files):
        real = os.path.realpath(library.parent)
        system = any(real == folder or real.startswith(f"{folder}/") for folder in _DEFAULT_FOLDERS)
        _place_link_chain(library, staging, None if system else _DEFAULT_FOLDERS[0])


def _source_destination(module: Module) -> str:
    parts = module.name.replace(".", "/")
    is_package = Path(module.file).name == "__init__.py"
    return f"{LIBRARY}/{parts}{'/__init__' if is_package else ''}.pyc"


def _extension_destination(module: Module) -> str:
    package, dot, _ = module.name.rpartition(".")
    return f"{LIBRARY}/{package.replace('.', '/')}/{Path(module.file).name}" if dot else f"{DYNLOAD}/{module.name}.so"


def _compile(modules: tuple[Module, ...], staging: Path, interpreter: Path) -> None:
    work = []
    for module in modules:
        destination = staging / _source_destination(module)
        destination.parent.mkdir(parents=True, exist_ok=True)
        work.append([module.file, str(destination), f"{module.name.replace('.', '/')}.py"])
    outcome = program.run(
        [str(interpreter), "-sSB", str(Path(__file__).with_name("precompile.py"))],
        environment={"PYTHONHASHSEED": "0"},
        text=json.dumps(work),
    )
    if outcome.code != 0:
        raise ImageError(f"{interpreter}: cannot compile the capture runner: {outcome.complaint}")


def stage(of: Program, modules: tuple[Module, ...], staging: Path) -> None:
    """The interpreter's tree with these modules and the runner's script lie in the staging tree."""
    sources = [module for module in modules if module.kind == "source"]
    if not any(module.name == _LANDMARK for module in sources):
        sources.append(Module(_LANDMARK, "source", os.__file__))
    (staging / DYNLOAD).mkdir(parents=True, exist_ok=True)
    _compile(tuple(sources), staging, of.interpreter)

    binaries = [of.interpreter]
    executable = staging / EXECUTABLE
    executable.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(of.interpreter, executable)
    executable.chmod(0o755)
    for module in modules:
        if module.kind == "extension":
            destination = staging / _extension_destination(module)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module.file, destination)
            destination.chmod(0o755)
            binaries.append(Path(module.file))
    stage_libraries(tuple(binaries), staging)

    runner = staging / RUNNER
    # Not executable yet: dracut-install looks on this machine for the interpreter of every executable script.
    runner.write_text(_RUNNER_TEXT.format(executable=EXECUTABLE, entry=of.entry))
