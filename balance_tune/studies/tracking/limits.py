"""Refuses names and values that MLflow could not store completely, before a study starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.errors import UserError
from balance_tune.studies.tracking.backend import store_of
from balance_tune.studies.tracking.runs import MAX_KEY, MAX_PARAM, MAX_TAG, metric_name, params_of
from balance_tune.studies.wording import shown

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.protocol.arms import Arm

MAX_NAME = 500  # characters of an experiment's name


def check_limits(config: StudyConfig, arms: Sequence[Arm]) -> None:
    """Check address, names and values of a study against what MLflow takes; loads nothing of MLflow.

    Raises:
        UserError: the first that would be refused or, worse, silently cut.
    """
    store_of(Path(), config.mlflow.tracking_uri)
    if len(config.name) > MAX_NAME:
        raise UserError(f"`name` must have at most {MAX_NAME} characters for MLflow, but has {len(config.name)}.")
    for arm in arms:
        if len(arm.name) > MAX_TAG:
            name = shown(arm.name)
            raise UserError(f"an arm's name must have at most {MAX_TAG} characters, but {name} has {len(arm.name)}.")
        for name, value in _largest(config, arm):
            where = f"parameter {shown(name)} of arm {arm.name}"
            if metric_name(name) != name:
                raise UserError(
                    f"{where} must be named with letters, digits, `_`, `-`, `.`, blanks and single `/`, and at most "
                    f"{MAX_KEY} characters, for MLflow to keep it."
                )
            if len(value) > MAX_PARAM:
                raise UserError(
                    f"{where} must have a value of at most {MAX_PARAM} characters for MLflow to keep it whole, but "
                    f"{shown(value)} has {len(value)}."
                )


def _largest(config: StudyConfig, arm: Arm) -> Iterator[tuple[str, str]]:
    """Yield the parameters that the arm's trials will store: the default, then every choice of every parameter."""
    default = arm.space.defaults()
    sides = {side: arm.settings(default, side) for side in ("training", "modulation")}
    yield from params_of({**sides, "model": config.model.model_dump(mode="json")}).items()
    for parameter in arm.space.parameters:
        for choice in parameter.choices or ():
            yield parameter.name, str(choice)
