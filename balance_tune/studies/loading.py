"""Reads a study file and checks that its datasets, methods, models and rules exist and fit together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.data.stores import check_known
from balance_tune.studies.protocol.arms import arms_of, check_models, check_names
from balance_tune.studies.storage.study_folder import ROOT, StudyFolder, root_folder
from balance_tune.studies.tracking.limits import check_limits
from balance_tune.studies.wording import one_line


def load_config(
    source: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    root: StudyFolder | None = None,
) -> StudyConfig:
    """Return the study in a YAML file, or in a mapping of the same shape, after `key=value` overrides.

    Every name is looked up among what is installed, and the search space of every arm is built.

    Args:
        source: the study.
        overrides: entries to set.
        root: the studies' root, below which users' own datasets lie; by default $BALANCE_TUNE_ROOT, else ./studies.

    Raises:
        UserError: one line, whatever is wrong.
    """
    config = read_config(source, overrides)
    try:
        root = root or root_folder(os.environ.get(ROOT) or "studies")
        check_known(config.datasets, config.data.stores, root / "data")
        check_names(config)
        arms = arms_of(config)
        check_models(config, arms)
        check_limits(config, arms)
    except UserError as error:
        raise UserError(one_line(str(error))) from error
    return config
