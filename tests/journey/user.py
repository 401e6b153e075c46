"""A user at a shell: the commands as they are typed, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


@dataclass
class User:
    """Works in `folder`; studies, data and MLflow's file lie in `folder`/studies, as they do by default.

    `modules` is a folder of modules of her own on PYTHONPATH.
    """

    folder: Path
    modules: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "BALANCE_TUNE_ROOT", "BALANCE_TUNE_DATA")
        inherited = {name: value for name, value in os.environ.items() if name not in dropped}
        path = os.pathsep.join(map(str, filter(None, (REPOSITORY, self.modules))))
        return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def types(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `balance-tune WORDS`, which must end with `status`, and never with a traceback."""
        done = self.starts("-P", "-m", "balance_tune", *words)
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def starts(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` to its end."""
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def reads(self, *words: str) -> Any:
        """Return what a command prints as JSON."""
        return json.loads(self.types(*words, "-f", "json").stdout)

    def interrupts(self, *words: str, after: str) -> str:
        """Run a command and press Ctrl-C once a line of its standard error holds `after`; return all of that."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "balance_tune", *words],
            cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        said = []
        with process:
            for line in process.stderr:
                said.append(line)
                if after in line:
                    process.send_signal(signal.SIGINT)
                    said += process.stderr
        assert process.returncode == 130, "".join(said)
        return "".join(said)
