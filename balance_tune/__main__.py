"""`python -m balance_tune` is `balance-tune`."""

import sys

from balance_tune.cli import main

if __name__ == "__main__":
    sys.exit(main())
