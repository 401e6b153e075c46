"""Runs every benchmark, prints its table, and writes benchmarks/RESULTS.md: make bench"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.table import machine

RESULTS = Path(__file__).parent / "RESULTS.md"
NAMES = ("steps", "epochs", "trial_start", "search_efficiency")


def main() -> None:
    """Run each benchmark in a process of its own, so that none leaves threads or imports to the next."""
    parts = ["# Benchmarks\n\nRatios within one run, made by `make bench`.\n", f"{machine()}\n"]
    for name in NAMES:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], text=True, stdout=subprocess.PIPE, check=True
        )
        print(done.stdout, flush=True)
        parts.append(done.stdout)
    RESULTS.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
