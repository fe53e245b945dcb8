"""`python -m bench [CLAIM ...]`: run the named measurements, or all of them."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench

NOT_CLAIMS = {"__main__", "captures", "kdump_tools", "picture", "rounds"}


def main(names: list[str]) -> int:
    """Run the claims in turn."""
    claims = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if module.name not in NOT_CLAIMS)
    unknown = [name for name in names if name not in claims]
    if unknown:
        print(f"bench: no claim {unknown[0]}; there are {', '.join(claims)}", file=sys.stderr)
        return 2
    for name in names or claims:
        print(f"## {name}\n")
        importlib.import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
