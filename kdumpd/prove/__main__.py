"""`python3 -m kdumpd.prove [POLICY]`: the policy's targets proved, told and recorded; 0 all good, 3 not, 1 an error.

What kdumpd.service runs now and then.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kdumpd.errors import KdumpdError
from kdumpd.policy import load
from kdumpd.prove import proof

_POLICY = "/etc/kdumpd.yaml"
_FAILED = 3


def main(arguments: list[str]) -> int:
    """The exit code, after a line for each target."""
    try:
        proofs = proof.prove(load.load(arguments[0] if arguments else _POLICY))
        for one in proofs:
            print(one.line(), flush=True)
        proof.record(Path("/"), proofs)
    except KdumpdError as error:
        print(f"kdumpd: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if all(one.ok for one in proofs) else _FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
