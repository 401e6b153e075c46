"""`python -m balance_tune` is `balance-tune`."""

import sys

from balance_tune.shadows import imported_shadow, sentence


def main() -> int:
    """Run one command and return the exit status."""
    try:
        from balance_tune import cli
    except Exception:
        file = imported_shadow()
        if file is None:
            raise
        sys.stderr.write(f"balance-tune: {sentence(file)}\n")
        return 2
    return cli.main()


if __name__ == "__main__":
    status = main()
    # where Ctrl-C came while code in a string ran (a dataclass being made, say), CPython remembers it and kills the
    # process by SIGINT in the end, although it was handled; running some more such code makes it forget
    exec("")
    sys.exit(status)
