"""A study's search phase in a process of its own, which tells what has been trained while it goes on."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol.keys import TrialKey
from benchmarks.intervals import note
from benchmarks.search_phase import Phase, search


@contextmanager
def searching(config: StudyConfig, folder: Path, slots: int) -> Iterator[tuple[int, Connection]]:
    """Yield the process of a search phase, and the pipe by which it tells each trial's end, then the phase."""
    spawn = multiprocessing.get_context("spawn")
    told, tell = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_search, args=(config, folder, slots, tell))
    process.start()
    tell.close()
    assert process.pid is not None
    try:
        yield process.pid, told
        process.join(60)
    finally:
        process.terminate()  # and Ray with it, where it has not ended
        process.join()


def _search(config: StudyConfig, folder: Path, slots: int, tell: Connection) -> None:
    def heard(phase: Phase, key: TrialKey) -> None:
        tell.send((phase.configs[key], phase.ended[key][2]))

    tell.send(search(config, timed, cpus=slots, folder=folder, heard=heard))


def timed(config: dict[str, Any]) -> None:
    """Run a study's own trial, and note in the file `epochs` of its study when each of its epochs begins and ends."""
    from balance_tune.studies.execution import trial

    if not hasattr(trial.train, "plain"):
        plain = trial.train
        path = Path(config["scratch"]).parent / "epochs"

        def train(*args: Any) -> Iterator[dict[str, float]]:
            for metrics in plain(*args):
                now = time.perf_counter()
                note(path, (now - metrics["time/epoch_s"], now))
                yield metrics

        train.plain = plain  # type: ignore[attr-defined]
        trial.train = train  # type: ignore[assignment]
    trial.run_trial(config)
