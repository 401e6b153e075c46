"""A small copy of a study: the same datasets, models and methods on made-up data, done in a minute or two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from balance_tune.datasets.distribution import Distribution
from balance_tune.errors import UserError
from balance_tune.registry import datasets
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.config.study_method import BASELINE, StudyMethod
from balance_tune.studies.data.stores import MINIATURE
from balance_tune.studies.protocol.arms import arms_of

EPOCHS, BATCH, REPLICATES = 2, 8, 2
SETTINGS: dict[str, Any] = {
    "select": {"points": 1, "seeds": 0},
    "confirm": {"seeds": 2, "default_seeds": 0},
    "limit": {},
    "resources": {"workers": 1, "cpus_per_trial": 1, "gpus_per_trial": "auto"},  # of any machine
}


def miniature(config: StudyConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a study's miniature as plain data, and the names of the methods and arms that would never act in it.

    Every dataset that is prepared is replaced by its miniature, and has small encoders where it has large ones; a trial
    has two epochs, an arm one trial and two confirmation seeds, in at most two replicates.
    """
    plain = config.as_dict()
    stores = {n: MINIATURE for n in config.datasets if issubclass(datasets().get(n), Distribution)}
    training = {**plain["training"], "epochs": EPOCHS, "batch_size": BATCH}
    space = {
        section: {name: entry for name, entry in entries.items() if section != "training" or name not in training}
        for section, entries in plain["search"]["space"].items()
    }
    plain |= SETTINGS | {
        "name": f"{config.name}-miniature"[:100],
        "training": training,
        "replicates": min(plain["replicates"], REPLICATES),
        "search": {**plain["search"], "trials": 1, "device_seconds": None, "warm_start": None, "space": space},
        "data": {**plain["data"], "stores": {**plain["data"]["stores"], **stores}},
    }
    entries = [entry for entry in config.methods if entry.name == BASELINE or _acts(plain, entry)]
    plain["methods"] = [entry.model_dump() for entry in entries]
    plain["search"]["space"] = _needed_sections(space, entries)
    return plain, tuple(entry.name for entry in config.methods if entry not in entries)


def _needed_sections(space: dict[str, Any], entries: Iterable[StudyMethod]) -> dict[str, Any]:
    """Return the sections of `search.space` that these entries of the study's methods need."""
    names = {"training", *(name for entry in entries for name in (entry.name, entry.method))}
    return {section: ranges for section, ranges in space.items() if section in names}


def _acts(plain: dict[str, Any], entry: StudyMethod) -> bool:
    search = {**plain["search"], "space": _needed_sections(plain["search"]["space"], [entry])}
    try:
        arms_of(read_config({**plain, "methods": [BASELINE, entry.model_dump()], "search": search}))
    except UserError as error:
        if "every method must act" in str(error):
            return False
        raise
    return True
