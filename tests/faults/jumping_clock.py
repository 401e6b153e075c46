"""Runs the command with a clock that jumps by so many days, five seconds into the study."""

from __future__ import annotations

import sys
import time

from balance_tune.cli import main

AFTER = 5.0  # seconds


def jump(days: float) -> None:
    began, clock = time.monotonic(), time.time

    def jumped() -> float:
        return clock() + (days * 86400 if time.monotonic() - began > AFTER else 0.0)

    time.time = jumped


if __name__ == "__main__":
    jump(float(sys.argv.pop(1)))
    sys.exit(main())
