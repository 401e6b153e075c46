"""Displays of a running study: a live table, a line per ended trial, a JSON line per event, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from balance_tune.studies.monitor.estimate import ArmState
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.tasks import METRICS

Kind = Literal["auto", "live", "plain", "json", "none"]
MAIN = tuple(f"val/{names[0]}" for names in METRICS.values())  # of each task


class Progress:
    """The display of a running study; this one shows nothing. Every method returns at once.

    Args:
        stream: where a display writes.
    """

    period = float("inf")  # seconds between two pictures

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._last = stream, time.monotonic()

    def message(self, text: str) -> None:
        """Show one sentence."""

    def trial_ended(self, key: TrialKey, state: str, attrs: Mapping[str, Any]) -> None:
        """Show how a trial ended."""

    def wants(self) -> bool:
        """Return whether it is time for another picture."""
        return time.monotonic() - self._last >= self.period

    def show(self, states: Sequence[ArmState], seconds_left: float | None) -> None:
        """Show how far the arms are."""

    def show_wait(self, text: str) -> None:
        """Show what the study waits for after `close`; a terminal shows repeated calls on one line."""

    def close(self) -> None:
        """Stop updating; the last picture stays."""


def progress_of(kind: Kind, stream: IO[str] | None = None) -> Progress:
    """Return the display called `kind`; `auto` is live in a terminal and plain elsewhere."""
    stream = stream or sys.stderr
    if kind == "auto":
        kind = "live" if stream.isatty() else "plain"
    return {"live": LiveTable, "plain": PlainLines, "json": JsonLines, "none": Progress}[kind](stream)


class PlainLines(Progress):
    """A line for each trial that ended, and how far the study is, every ten seconds at most."""

    period = 10.0

    def message(self, text: str) -> None:
        self._line(text)

    def trial_ended(self, key: TrialKey, state: str, attrs: Mapping[str, Any]) -> None:
        words = {"complete": "completed", "pruned": "stopped early", "failed": "FAILED"}[state]
        detail = _detail(attrs) if state != "failed" else f": {attrs.get('reason', '')}"
        epochs = attrs.get("epochs", 0)
        self._line(f"{key}: {words} after {epochs} epoch{'s' if epochs != 1 else ''}{detail}")

    def show(self, states: Sequence[ArmState], seconds_left: float | None) -> None:
        self._last = time.monotonic()
        done, expected = sum(s.done for s in states), sum(s.expected for s in states)
        self._line(f"{done} of at most {expected} trials, {_time_left(seconds_left)}")

    def show_wait(self, text: str) -> None:
        if self.wants():
            self._last = time.monotonic()
            self._line(text)

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class JsonLines(Progress):
    """A JSON object a line: {"event": "message" | "trial" | "progress" | "waiting", ...}."""

    period = 5.0

    def message(self, text: str) -> None:
        self._write({"event": "message", "text": text})

    def trial_ended(self, key: TrialKey, state: str, attrs: Mapping[str, Any]) -> None:
        numbers = {name: attrs[name] for name in ("epochs", "device_seconds", "best_epoch", "reason") if name in attrs}
        self._write({"event": "trial", **key._asdict(), "state": state, **numbers})

    def show(self, states: Sequence[ArmState], seconds_left: float | None) -> None:
        self._last = time.monotonic()
        arms = [{"arm": s.arm, **s.counts, "expected": s.expected, "best": s.search_val} for s in states]
        self._write({"event": "progress", "seconds_left": seconds_left, "arms": arms})

    def show_wait(self, text: str) -> None:
        if self.wants():
            self._last = time.monotonic()
            self._write({"event": "waiting", "text": text})

    def _write(self, value: Mapping[str, Any]) -> None:
        print(json.dumps(value), file=self._stream, flush=True)


class LiveTable(Progress):
    """A table that is drawn anew in place, failures above it."""

    period = 0.5

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._console = Console(file=stream)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.start()
        self._awaited = Live(console=self._console, auto_refresh=True, transient=True)  # below the table, later
        self._last = 0.0

    def message(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def trial_ended(self, key: TrialKey, state: str, attrs: Mapping[str, Any]) -> None:
        if state == "failed":
            self.message(f"{key} failed: {attrs.get('reason', '')}")

    def show(self, states: Sequence[ArmState], seconds_left: float | None) -> None:
        self._last = time.monotonic()
        self._live.update(picture(states, seconds_left), refresh=True)

    def show_wait(self, text: str) -> None:
        if not self._awaited.is_started:
            self._awaited.start()
        self._awaited.update(text)

    def close(self) -> None:
        self._live.stop()
        self._awaited.stop()


def picture(states: Sequence[ArmState], seconds_left: float | None) -> Table:
    """Return the table of a study under way: a row an arm, and all together."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("arm", "done", "running", "stopped early", "failed", "best val"):
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=name == "arm")
    for s in states:
        table.add_row(
            s.arm,
            f"{s.done}/{s.expected}",
            _count(s.counts.get("running", 0)),
            _count(s.counts.get("pruned", 0)),
            _count(s.counts.get("failed", 0)),
            "" if s.search_val is None else f"{s.search_val:.4f}",
        )
    done, expected = sum(s.done for s in states), sum(s.expected for s in states)
    running = sum(s.counts.get("running", 0) for s in states)
    table.add_row("all", f"{done}/{expected}", _count(running), "", "", _time_left(seconds_left), style="bold")
    return table


def _count(number: int) -> str:
    return str(number) if number else ""


def _detail(attrs: Mapping[str, Any]) -> str:
    metrics = attrs.get("metrics") or {}
    best = next((f", best val {metrics[name]:.4f}" for name in MAIN if name in metrics), "")
    return f"{best} (epoch {attrs['best_epoch']})" if best else ""


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return "time left unknown"
    minutes = seconds / 60
    if minutes < 1.5:
        return f"about {max(1, round(seconds)):d} s left"
    return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
