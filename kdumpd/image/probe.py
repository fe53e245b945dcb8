"""Lists what a set of imports loads; run as a script in a fresh, isolated interpreter that stands for the image's.

Arguments: folders to import from (separated by ":"), modules that must import, modules that may (separated by ",").
Prints one [name, kind, file] for each module loaded; kind is source, extension, frozen or builtin. Imports nothing of
kdumpd by itself, and nothing at all before the listing is made: that would widen what it measures.
"""

import sys


def listing() -> list[tuple[str, str, str]]:
    """Every loaded module but this script, by name."""
    found = []
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        # An alias such as os.path is loaded by the name of what it stands for.
        if name == "__main__" or spec is None or (spec.name != name and spec.name in sys.modules):
            continue
        origin = spec.origin or ""
        if origin in ("built-in", "frozen"):
            found.append((name, "builtin" if origin == "built-in" else "frozen", ""))
        else:
            found.append((name, "extension" if origin.endswith(".so") else "source", origin))
    return found


def main(folders: str, required: str, optional: str) -> int:
    """The listing is printed as JSON; a required import that fails ends in its own traceback."""
    sys.path[:0] = folders.split(":")
    for name in filter(None, required.split(",")):
        __import__(name)
    for name in filter(None, optional.split(",")):
        try:
            __import__(name)
        except ImportError:
            continue
    found = listing()
    import json

    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
