"""Runs every command of the README and of docs/quickstart.md, word for word: python -m tests.readme ROOT

The root holds a finished quickstart study.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from balance_tune.studies.storage.records import read_records

HERE = Path(__file__).parent.parent
PAGES = (HERE / "README.md", HERE / "docs" / "quickstart.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BY_CI = {"make study", "make test", "make test-jobs", "make check"}  # .ci/run runs these itself
SERVES = "make ui"
MINUTES = 60.0
FIELDS = [
    "dataset",
    "method",
    "trials",
    "complete",
    "pruned",
    "failed",
    "epochs",
    "device_seconds",
    "val",
    "params",
    "seeds",
    "test_mean",
    "test_sd",
    "test_ci",
    "default_test_mean",
    "delta",
    "delta_ci",
    "p_value",
    "test_by_modality",
]


def blocks(*languages: str) -> list[str]:
    """Return the fenced blocks of some languages ("" for plain ones) of both pages."""
    return [body for page in PAGES for found, body in FENCE.findall(page.read_text()) if found in languages]


def commands() -> list[str]:
    """Return the commands of both pages in order, without comments; output shown in a block is not a command."""
    lines = [line.split("  #")[0].strip() for body in blocks("", "bash") for line in body.splitlines()]
    return [line for line in lines if line.startswith(("make ", "balance-tune "))]


def run(command: list[str], environment: dict[str, str]) -> str:
    """Run one command and return what it printed; a status other than 0 ends this check."""
    print(f"$ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, cwd=HERE, env=environment, text=True, stdout=subprocess.PIPE, timeout=20 * MINUTES)
    if done.returncode:
        sys.exit(f"status {done.returncode}: {shlex.join(command)}\n{done.stdout}")
    return done.stdout


def serve(environment: dict[str, str]) -> None:
    """Start the MLflow UI as the README does, fetch the page at the address it prints, and end it."""
    print(f"$ {SERVES}", flush=True)
    served = subprocess.Popen(
        shlex.split(SERVES), cwd=HERE, env=environment, text=True, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert served.stdout is not None
        address = next(found[0] for line in served.stdout if (found := re.findall(r"http://[\w.:]+", line)))
        deadline = time.monotonic() + 2 * MINUTES
        while True:
            try:
                with urllib.request.urlopen(address, timeout=10) as page:
                    assert "MLflow" in page.read().decode()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait(timeout=MINUTES)


def check_leaderboard(rows: list[dict[str, object]]) -> None:
    """Hold the quickstart's leaderboard to what the pages say of it."""
    assert {(row["dataset"], row["method"]) for row in rows} == {
        (dataset, method)
        for dataset in ("av_digits", "multiple_features")
        for method in ("joint", "ogm_ge", "opm", "mlb", "relearning", "placebo")
    }
    for row in rows:
        assert list(row)[: len(FIELDS)] == FIELDS, list(row)
        assert (row["replicates"], row["replicates_done"]) == (5, 5)
        assert row["trials"] == 5 * 5
        assert row["complete"] + row["pruned"] + row["failed"] == 5 * 5  # type: ignore[operator]
        assert len(row["seeds"]) == 5  # type: ignore[arg-type]
        assert 0.8 < row["test_mean"] < 1.0, row  # type: ignore[operator]


def main(root: str) -> None:
    binaries = HERE / ".venv" / "bin"
    environment = {**os.environ, "BALANCE_TUNE_ROOT": root, "ROOT": root, "PATH": f"{binaries}:{os.environ['PATH']}"}
    study = Path(root) / "quickstart"
    for command in commands():
        if command == SERVES:
            serve(environment)
        elif command not in BY_CI:
            before = read_records(study)
            printed = run(shlex.split(command), environment)
            if command == "balance-tune run search_spaces/quickstart.yaml" and read_records(study) != before:
                sys.exit("a finished study was trained again")
            if command == "balance-tune report quickstart -f json":
                check_leaderboard(json.loads(printed))
    for body in blocks("python"):
        if "run_study" in body:
            run([sys.executable, "-c", body], environment)
    print("every command of README.md and docs/quickstart.md works")


if __name__ == "__main__":
    main(sys.argv[1])
