"""The writer's process: what it is given, and what it does. Started by `Courier`, never by hand.

Line by line it takes JSON from its standard input: the order, then `{"drain": number}` and `{"stop": true}`. It answers
with `{"state": ...}` and with what it logs, `{"log": [name, level, text]}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from balance_tune.datasets.manifest import Manifest
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store
from balance_tune.studies.tracking.champions import Champions
from balance_tune.studies.tracking.delivery import Delivery
from balance_tune.studies.tracking.spool import Reader
from balance_tune.studies.tracking.writer import State, Writer

logger = logging.getLogger(__name__)
NICE = 19  # the lowest priority: with trials on every core MLflow gets what they leave, and a hundredth of one


@dataclass(frozen=True)
class Order:
    """What a writer must know: the queue to read, the store to write to, and whose study it is.

    Attributes:
        manifests: dataset -> its manifest as JSON.
        location: of the study's folder, where it is in an object store (see `StudyFolder`).
        linger: seconds that epochs of a running trial wait for each other.
    """

    queue: str
    store: Store
    study: str
    study_id: str
    folder: str
    manifests: Mapping[str, str]
    location: tuple[str, str] | None = None
    linger: float = 10.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "manifests": dict(self.manifests)}

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Order:
        return Order(
            **{**told, "store": Store(**told["store"]), "location": told["location"] and tuple(told["location"])}
        )


def writer_of(order: Order, tell: Callable[[State], None]) -> Writer:
    """Return the writer that does an order."""
    folder = StudyFolder.at(Path(order.folder), order.location)
    manifests = {name: Manifest.from_json(text) for name, text in order.manifests.items()}
    delivery = Delivery(order.store, order.study, order.study_id, manifests)
    tasks = {"champion": Champions(delivery, folder).crown}
    spool = Reader(Path(order.queue))
    return Writer(spool, delivery, tasks, tell, shown=order.store.shown, linger=order.linger)


class _Answers(logging.Handler):
    """Writes what the writer tells, and what anything in its process logs, in whole lines from whichever thread."""

    def __init__(self, to: IO[str]) -> None:
        super().__init__()
        self._to, self._pen = to, threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # what somebody logs may not fit together; the rest of them goes on
            self.handleError(record)
        else:
            self._write({"log": [record.name, record.levelno, text]})

    def state(self, state: State) -> None:
        told = {name: value for name, value in asdict(state).items() if name != "ended"}
        self._write({"state": told})

    def _write(self, answer: dict[str, Any]) -> None:
        try:
            with self._pen:
                self._to.write(json.dumps(answer) + "\n")
                self._to.flush()
        except OSError:  # the driver is gone
            os._exit(0)


def main() -> None:
    """Do what the driver says until it says stop, or is gone."""
    answers = _Answers(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # a library that prints must not answer in our place
    logging.getLogger().addHandler(answers)
    status = 1
    try:
        order = Order.from_json(json.loads(sys.stdin.readline()))
        writer = writer_of(order, answers.state)
        threading.Thread(target=_obey, args=(writer,), daemon=True).start()
        writer.open()
        with ThreadPoolExecutor(1) as beside:
            beside.submit(_give_way, writer).result()
        _share(0)
        writer.run()
        status = 0
    except OSError as error:  # of the queue: a disk that is full, say
        logger.warning("MLflow's writer cannot go on: %s.", error)
    except Exception:
        logger.exception("MLflow's writer ended by an error of its own.")
    os._exit(status)  # the other thread waits for input, over which Python's own end would stumble


def _give_way(writer: Writer) -> None:
    """Write at a low priority until somebody waits; in a thread of its own, for nobody may raise his own again."""
    os.nice(NICE)
    _share(NICE)
    writer.run(until_drain=True)


def _share(nice: int) -> None:
    """Where Linux shares the machine out by sessions first, as on a desktop, set the priority of our own."""
    with contextlib.suppress(OSError):  # no such sharing here
        Path("/proc/self/autogroup").write_text(str(nice))


def _obey(writer: Writer) -> None:
    for line in sys.stdin:
        wish = json.loads(line)
        if "drain" in wish:
            writer.drain(wish["drain"])
        else:
            writer.stop()
    os._exit(0)  # without a driver there is nobody to write for; another may be at work on the queue soon


if __name__ == "__main__":
    main()
