"""balance-tune status: shows how far a running or stopped study is."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option, root_option, study_argument, study_folder
from balance_tune.commands.output import columns, duration, print_json
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.storage.records import TrialRecord
    from balance_tune.studies.storage.study_folder import StudyFolder

HEADERS = ("arm", "searched", "selected", "confirmed", "pruned", "failed", "running", "best val")


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    state = state_of(study_folder(args))
    if args.format == "json":
        print_json(state)
    else:
        print(f"{sentence(state)}\n\n{columns(HEADERS, cells(state), right=range(1, len(HEADERS)))}")
    return 0


def state_of(folder: StudyFolder) -> dict[str, Any]:
    """Return how far a study is: its name, whether it runs, whether it has begun, and one row per arm (`progress`).

    Raises:
        UserError: one of its files cannot be read, or its database does not answer.
    """
    from balance_tune.studies.config.reader import stored_config
    from balance_tune.studies.storage.exclusive import is_running
    from balance_tune.studies.storage.files import DATABASE, JOURNAL
    from balance_tune.studies.storage.records import read_records

    config = stored_config(folder.path)
    begun = any((folder.path / name).is_file() for name in (JOURNAL, DATABASE))
    arms = progress(config, read_records(folder.path) if begun else [])
    return {"study": config.name, "running": is_running(folder), "begun": begun, "arms": arms}


def progress(config: StudyConfig, records: Iterable[TrialRecord]) -> list[dict[str, Any]]:
    """Return one row per arm: its trials by state and phase, what it spent, its best validation value so far."""
    objective = Objective(config.objective)
    arms: dict[str, list[TrialRecord]] = {}
    for r in records:
        arms.setdefault(r.arm, []).append(r)
    for dataset in config.datasets:
        for entry in config.methods:
            name = f"{dataset}/{entry.name}"
            if not any(arm == name or arm.startswith(f"{name}-") for arm in arms):
                arms[name] = []
    rows = []
    for name, trials in arms.items():
        counted = [r for r in trials if not r.superseded]
        states = Counter(r.state for r in counted)
        finished = Counter(r.phase for r in counted if r.finished)
        values = [r.value for r in counted if r.phase == "search" and r.state == "complete" and r.value is not None]
        rows.append(
            {
                "arm": name,
                "search": finished["search"],
                "search_trials": None if config.search.trials is None else config.search.trials * config.replicates,
                "replicates": config.replicates,
                "select": finished["select"],
                "confirm": finished["confirm"],
                **{state: states[state] for state in ("complete", "pruned", "failed", "running")},
                "search_val": objective.best(values),
                "best": objective.best(values),  # what 0.1 calls `search_val`
                "device_seconds": round(sum(r.device_seconds for r in trials), 1),
            }
        )
    return rows


def sentence(state: dict[str, Any]) -> str:
    """Return whether a study is running, what it has spent, and whether it was interrupted, in one sentence."""
    spent = duration(sum(row["device_seconds"] for row in state["arms"]))
    verb = "is running" if state["running"] else "is not running"
    open_trials = 0 if state["running"] else sum(row["running"] for row in state["arms"])
    trials = "1 trial was" if open_trials == 1 else f"{open_trials} trials were"
    ending = f"; {trials} interrupted, and the same `balance-tune run` goes on" if open_trials else ""
    return f"{state['study']} {verb}; {spent} of device time so far{ending}."


def cells(state: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a study's arms, one row per arm, with the columns HEADERS."""
    return [
        (
            row["arm"],
            f"{row['search']}/{row['search_trials']}" if row["search_trials"] else str(row["search"]),
            str(row["select"]),
            str(row["confirm"]),
            str(row["pruned"]),
            str(row["failed"]),
            str(row["running"] if state["running"] else 0),
            "" if row["search_val"] is None else f"{row['search_val']:.4f}",
        )
        for row in state["arms"]
    ]
