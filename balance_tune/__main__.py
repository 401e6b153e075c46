"""`python -m balance_tune` is `balance-tune`."""

import sys

from balance_tune.cli import main

if __name__ == "__main__":
    status = main()
    # where Ctrl-C came while code in a string ran (a dataclass being made, say), CPython remembers it and kills the
    # process by SIGINT in the end, although it was handled; running some more such code makes it forget
    exec("")
    sys.exit(status)
