"""Times that an operator may set in the environment, in seconds."""

from __future__ import annotations

import math
import os

from balance_tune.errors import UserError

DEFAULTS = {
    "BALANCE_TUNE_CONNECT_S": 5.0,  # until an address that a user gave answers to a socket
    "BALANCE_TUNE_OUTAGE_S": 600.0,  # how long a store or database that does not answer is waited for
    "BALANCE_TUNE_REPORT_EVERY_S": 1.0,  # between two reports of a trial
    "BALANCE_TUNE_SAVE_EVERY_S": 10.0,  # between two states that an interrupted trial can go on from
    "BALANCE_TUNE_SILENCE_S": 1800.0,  # without a report from a trial
    "BALANCE_TUNE_TAKEOVER_S": 0.0,  # how long a run waits for another driver of the study to end
}


def seconds(name: str) -> float:
    """Return a time of `DEFAULTS` as it is set; its default where it is not, or not as `check` wants it."""
    value = _read(name)
    return DEFAULTS[name] if value is None else value


def check() -> None:
    """Raise a `UserError` where a time is set to what is no number of seconds."""
    for name in DEFAULTS:
        if os.environ.get(name) and _read(name) is None:
            raise UserError(f"{name} must be a number of seconds of at least 0, but is `{os.environ[name]:.40}`.")


def _read(name: str) -> float | None:
    try:
        value = float(os.environ.get(name) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
