"""The numbers of a study as tables for other programs: every confirmation seed, every trial with its curve."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.results.arm_results import arms_by_table
from balance_tune.studies.results.tables import csv_cell
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import TrialRecord, read_records

SEEDS = (
    "dataset",
    "arm",
    "protocol",
    "replicate",
    "seed",
    "phase",
    "number",
    "point",
    "params",
    "tuned",
    "state",
    "val",
)
"""The columns of `seeds` that each study has; behind them come the test metrics and `device_seconds`."""


def seeds(study_folder: Path | str) -> list[dict[str, Any]]:
    """Return a row for each confirmation trial that has ended.

    Keys: dataset, arm, protocol, replicate (from 1), seed, phase, number, point (hash of the hyperparameters), params,
    tuned (of the chosen point; false: of the default, which may be the chosen one too), state, val (the objective),
    `test/METRIC` of each metric of the sealed evaluation, with those of single modalities as `test/METRIC/MODALITY`,
    device_seconds. What is not known is None.

    Args:
        study_folder: the folder of the study.

    Returns:
        a dictionary for each row.
    """
    folder = Path(study_folder)
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    rows = []
    for (protocol, _), arms in arms_by_table(read_records(folder), config, folder).items():
        for cell in (cell for arm in arms for cell in arm.cells):
            point = None if cell.point is None else cell.point.key
            for r in cell.records:
                if r.phase == "confirm" and r.finished and not r.superseded:
                    tuned = r.attrs.get("point") == point
                    test = (cell.tests if tuned else cell.default_tests).get(r.seed or 0, {})
                    rows.append(_seed(r, protocol, tuned, test))
    names = dict.fromkeys(name for row in rows for name in row if name.startswith("test/"))
    keys = [*SEEDS, *names, "device_seconds"]
    return [{key: row.get(key) for key in keys} for row in rows]


def _seed(r: TrialRecord, protocol: str, tuned: bool, test: Mapping[str, Any]) -> dict[str, Any]:
    scores = {f"test/{name}": float(v) for name, v in test.items() if isinstance(v, int | float) and name != "n"}
    return {
        "dataset": r.dataset, "arm": r.arm, "protocol": protocol, "replicate": r.replicate + 1, "seed": r.seed,
        "phase": r.phase, "number": r.number, "point": r.attrs.get("point"), "params": json.dumps(dict(r.params)),
        "tuned": tuned, "state": r.state, "val": r.value, **scores, "device_seconds": r.device_seconds,
    }  # fmt: skip


def trials(study_folder: Path | str) -> list[dict[str, Any]]:
    """Return a row for each trial of every phase.

    Keys: arm, dataset, method, replicate (from 1), phase, number, state, seed, default, val (the objective of the best
    epoch), best_epoch, epochs, curve (the objective of each epoch, from epoch 1; None where an epoch is unknown),
    device_seconds, reason (of a failure), started and ended (seconds since 1970), and `params.NAME` of each parameter.

    Args:
        study_folder: the folder of the study.

    Returns:
        a dictionary for each row.
    """
    rows = []
    for r in read_records(Path(study_folder)):
        last = max(r.curve, default=0)
        rows.append({
            "arm": r.arm, "dataset": r.dataset, "method": r.method, "replicate": r.replicate + 1, "phase": r.phase,
            "number": r.number, "state": r.state, "seed": r.seed, "default": bool(r.attrs.get("default")),
            "val": r.value, "best_epoch": r.attrs.get("best_epoch"), "epochs": r.epochs,
            "curve": [r.curve.get(epoch) for epoch in range(1, last + 1)], "device_seconds": r.device_seconds,
            "reason": r.attrs.get("reason"), "started": r.started, "ended": r.ended,
            **{f"params.{name}": value for name, value in r.params.items()},
        })  # fmt: skip
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def write(study_folder: Path | str) -> list[Path]:
    """Write `report/seeds.csv`, `report/seeds.parquet` and `report/trials.parquet`, each whole; return their paths."""
    report = Path(study_folder) / "report"
    confirmed, every = seeds(study_folder), trials(study_folder)
    paths = [report / "seeds.csv"]
    durable.write(paths[0], _csv(confirmed))
    for name, rows in (("seeds", confirmed), ("trials", every)):
        paths.append(report / f"{name}.parquet")
        durable.write(paths[-1], _parquet(rows))
    return paths


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0] if rows else SEEDS)
    writer.writerows([csv_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as a Parquet file; a column whose values are of several kinds holds them as JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {}
    for name in rows[0] if rows else SEEDS:
        values = [row[name] for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([None if value is None else json.dumps(value) for value in values])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
