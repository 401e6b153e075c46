"""A study's driver as a child process, as a user starts it, and what is left of it when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
MARK = "BALANCE_TUNE_TEST_MARK"  # in the environment of the driver, and so of every process it starts
PATIENCE = 600.0  # seconds after which a test gives up on a driver

STUDY: dict[str, Any] = {
    "name": "faults",
    "datasets": ["multiple_features"],
    "methods": ["joint", "fragile"],
    "training": {"epochs": 5, "batch_size": 128},
    "search": {"trials": 4, "early_stopping": {"grace": 1, "reduction": 3}},
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 2, "default_seeds": 1},
    "resources": {"max_concurrent": 1},
}


@dataclass
class Driver:
    """Starts `balance-tune run` on one study in one root, again and again if need be.

    `traps` is where `tests.faults.fragile` looks for faults; `program` is what python runs instead of the command;
    `place` is the studies' root where that is not `root`.
    """

    root: Path
    study: Mapping[str, Any] = field(default_factory=lambda: STUDY)
    environment: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("-m", "balance_tune")
    place: str = ""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def folder(self) -> Path:
        return self.root / str(self.study["name"])

    @property
    def traps(self) -> Path:
        return self.root / "traps"

    @property
    def log(self) -> Path:
        return self.root / "driver.log"

    def command(self, *overrides: str) -> list[str]:
        self.root.mkdir(parents=True, exist_ok=True)
        file = self.root / "study.yaml"
        file.write_text(yaml.safe_dump(dict(self.study)))
        return [sys.executable, *self.program, "run", str(file), "--root", self.place or str(self.root), *overrides]

    def surroundings(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
        paths = [str(REPOSITORY), str(plugin(self.root)), inherited.get("PYTHONPATH", "")]
        own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), MARK: self.mark, "OMP_NUM_THREADS": "1"}
        saving = {"BALANCE_TUNE_SAVE_EVERY_S": "0", "BALANCE_TUNE_TEST_TRAPS": str(self.traps)}
        return {**inherited, **own, **saving, **self.environment}

    def start(self, *overrides: str) -> subprocess.Popen[bytes]:
        command, log = self.command(*overrides), self.log.open("ab")
        with log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.surroundings(), cwd=self.root
            )

    def run(self, *overrides: str) -> int:
        """Run to the end; return the exit status."""
        process = self.start(*overrides)
        try:
            return process.wait(timeout=PATIENCE)
        finally:
            end(process)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def left_running(self) -> list[str]:
        """Return the processes that the driver started and that are there five minutes after its end."""
        until(lambda: not list(self.processes()), "its processes to end", patience=300, required=False)
        return list(self.processes())

    def processes(self) -> Iterator[str]:
        """Yield the processes there are of the driver and of all that it started."""
        wanted = f"{MARK}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z":
                        yield f"{entry.name}: {words[:120]}"
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has just ended


def plugin(root: Path) -> Path:
    """Return a folder to put on the path, in which `fragile` is installed as a third party's method is."""
    folder = root / "site"
    info = folder / "fragile-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[balance_tune.modulations]\nfragile = tests.faults.fragile:Fragile\n")
    return folder


def until(
    true: Callable[[], bool], what: str, *, patience: float = PATIENCE, required: bool = True, every: float = 0.02
) -> bool:
    """Wait until something is true; return whether it is. What is awaited has no other way of saying so."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            assert not required, f"waited {patience:.0f} s for {what}"
            return False
        time.sleep(every)
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


@contextmanager
def running(driver: Driver, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """A driver under way, which is killed on leaving if it still is."""
    process = driver.start(*overrides)
    try:
        yield process
    finally:
        end(process)
