"""`python -m kdumpd` is the `kdumpd` command."""

import sys

from kdumpd.cli.main import main

sys.exit(main())
