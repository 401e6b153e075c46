"""Runs every benchmark, prints its table, and writes benchmarks/RESULTS.md: make bench

    python -m benchmarks [NAME ...]

Each runs in a process of its own, so that none leaves threads or imports to the next, and can be run alone as
`python -m benchmarks.NAME`. One that fails is named in the results; the others run, and the exit status is 1. With
names, only those run, and nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.table import machine

RESULTS = Path(__file__).parent / "RESULTS.md"
NAMES = (
    "steps",
    "epochs",
    "data",
    "trial_start",
    "efficiency",
    "driver",
    "tracking",
    "proposals",
    "startup",
    "regret",
)
LONGEST = 400  # seconds that one benchmark may take
GRACE = 10  # seconds in which it may end by itself after that


def run(name: str) -> tuple[str, bool]:
    """Return what the benchmark prints, or that it failed, and whether it did not."""
    began = time.perf_counter()
    print(f"{name} ...", file=sys.stderr, flush=True)
    argv = [sys.executable, "-m", f"benchmarks.{name}"]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            found, _ = process.communicate(timeout=LONGEST)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGINT)  # so that it lets go of processes that stand still
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"## {name}\n\nDid not finish in {LONGEST} s.\n", False
    print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    if process.returncode:
        return f"{found}\n## {name}\n\nFailed with exit status {process.returncode}.\n", False
    return found, True


def main(names: list[str]) -> int:
    """Run the benchmarks and return the exit status."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"a benchmark must be one of {', '.join(NAMES)}, but got {', '.join(unknown)}.", file=sys.stderr)
        return 2
    parts = ["# Benchmarks\n\nMade by `make bench`: ratios within one run; how to read them: docs/speed.md.\n"]
    parts.append(f"At the beginning: {machine()}\n")
    good = True
    for name in names or NAMES:
        text, fine = run(name)
        print(text, flush=True)
        parts.append(text)
        good = good and fine
    if not names:
        RESULTS.write_text("\n".join(parts))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
