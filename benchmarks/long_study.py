"""A study of ten thousand trials in sixty arms: python -m benchmarks.long_study [TRIALS]

Trials cost nothing (`benchmarks.driver.instant`); all the rest is a study's. Measured: what the driver spends on a
trial early and late, its memory, the size of its files, and how long it takes to look at the study and to go on with
it. Each command is a process of its own, and its start is counted. Where Chromium is installed it opens the report. A
run of all trials takes a quarter of an hour, so `make bench` leaves it out; it writes benchmarks/LONG_STUDY.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.storage.files import JOURNAL, PRUNING_LOG
from benchmarks.driver import DATASETS, EPOCHS, HUNDRED, METHODS, PASSED, costs, instant
from benchmarks.search_phase import Phase, say, search, study_folder
from benchmarks.table import Table, machine

RESULTS = Path(__file__).parent / "LONG_STUDY.md"
TRIALS = 10_000
DECAYS = (0.001, 0.0001)  # each method is there with its own weight decay, and with these
MEBIBYTE = 1 << 20


def configuration(trials: int) -> StudyConfig:
    """Return a study of so many trials in all; each arm has as many."""
    variants = [
        {"name": f"{method}_decay{i}", "method": method, "set": {"training.weight_decay": decay}}
        for method in METHODS
        for i, decay in enumerate(DECAYS)
    ]
    methods = [*METHODS, *variants]
    return load_config(
        {
            "name": "long",
            "datasets": list(DATASETS),
            "methods": methods,
            "training": {"epochs": EPOCHS},
            "search": {
                "trials": max(1, trials // (len(DATASETS) * len(methods))),
                "early_stopping": {"grace": 1, "reduction": 3},
            },
        }
    )


def measure(trials: int = TRIALS) -> Table:
    """Return the table of one such study."""
    memory: list[float] = []

    def heard(phase: Phase, key: TrialKey) -> None:
        memory.append(psutil.Process().memory_info().rss / MEBIBYTE)

    with study_folder() as folder:
        phase = search(configuration(trials), instant, folder=folder, heard=heard)
        ended = len(phase.ended)
        say(f"long_study: {ended} trials in {phase.seconds:.0f} s")
        first, last = costs(phase, PASSED, HUNDRED), costs(phase, ended - HUNDRED - 1, HUNDRED)
        sizes = {name: (folder / name).stat().st_size / MEBIBYTE for name in (JOURNAL, PRUNING_LOG)}
        place = [folder.name, "--root", str(folder.parent)]
        seconds = {name: _seconds("-m", "balance_tune", name, *place)[0] for name in ("status", "report")}
        page = folder / "report" / "index.html"
        size, shown = page.stat().st_size / MEBIBYTE, _seconds_to_show(page)
        opening, first_epoch = map(float, _seconds("-m", "benchmarks.long_study", "--resume", str(folder))[1].split())
    rows = [
        ["driver, wall ms per trial, first hundred", f"{first[0]:.1f}"],
        ["driver, wall ms per trial, last hundred", f"{last[0]:.1f} ({last[0] / first[0]:.2f} times)"],
        ["driver, CPU ms per trial, first hundred", f"{first[1]:.1f}"],
        ["driver, CPU ms per trial, last hundred", f"{last[1]:.1f} ({last[1] / first[1]:.2f} times)"],
        [f"resident memory of the driver after {PASSED + HUNDRED} trials, MiB", f"{memory[PASSED + HUNDRED - 1]:.0f}"],
        ["resident memory of the driver at the end, MiB", f"{memory[-1]:.0f}"],
        ["journal, MiB", f"{sizes[JOURNAL]:.1f}"],
        ["pruning log, MiB", f"{sizes[PRUNING_LOG]:.1f}"],
        ["MLflow complete after the last trial, s", f"{phase.lag:.0f}"],
        ["`status`, s", f"{seconds['status']:.1f}"],
        ["`report`, s", f"{seconds['report']:.1f}"],
        ["page of the report, MiB", f"{size:.2f}"],
        ["until Chromium has drawn it, its start included, s", "-" if shown is None else f"{shown:.1f}"],
        ["from the start of a resumed study until its trials are read, s", f"{opening:.1f}"],
        ["until a trial begins its first epoch, Ray's start included, s", f"{first_epoch:.1f}"],
    ]
    arms = len({key.arm for key in phase.ended})
    return Table(
        "A long study",
        f"{ended} trials that cost nothing in {arms} arms, two at a time, searched and not confirmed.",
        ("what", "measured"),
        rows,
    )


def resume(folder: Path) -> tuple[float, float]:
    """Go on with one more trial of each arm.

    Returns:
        Seconds from the start of this process until the queue is there, and until the first epoch begins.
    """
    config = stored_config(folder)
    longer = config.search.model_copy(update={"trials": (config.search.trials or 0) + 1})
    phase = search(config.model_copy(update={"search": longer}), instant, folder=folder)
    started = psutil.Process().create_time() - (time.time() - time.perf_counter())
    return phase.opened - started, phase.began - started


def _seconds_to_show(page: Path) -> float | None:
    """Return how long a browser without a window takes to draw a page; None where there is none."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    began = time.perf_counter()
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={page.with_suffix('.png')}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True)
    return time.perf_counter() - began


def _seconds(*arguments: str) -> tuple[float, str]:
    """Return how long a Python process took, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, done.stdout


if __name__ == "__main__":
    if sys.argv[1:2] == ["--resume"]:
        print(*resume(Path(sys.argv[2])))
    else:
        table = measure(*map(int, sys.argv[1:2])).markdown()
        text = f"# Ten thousand trials\n\nMade by `python -m benchmarks.long_study`.\n\n{table}"
        print(text)
        if not sys.argv[1:]:
            RESULTS.write_text(f"{text}\n({machine()})\n")
