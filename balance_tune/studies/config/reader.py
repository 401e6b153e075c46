"""Reads a study file into a `StudyConfig`. Whether its names are installed is checked by `studies.loading`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.config.mistakes import sentence
from balance_tune.studies.config.overrides import with_overrides
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.config.shipped import study_path
from balance_tune.studies.wording import one_line


def read_config(source: str | Path | Mapping[str, object] | StudyConfig, overrides: Sequence[str] = ()) -> StudyConfig:
    """Return the study in a YAML file, or in a mapping of the same shape, after `key=value` overrides.

    A bare name that is no file names a study file that ships with the package.

    Raises:
        UserError: one line, whatever is wrong with the text or a value.
    """
    try:
        if isinstance(source, StudyConfig):
            raw = source.as_dict()
        elif isinstance(source, Mapping):
            raw = strict_yaml.plain(source)
        else:
            raw = strict_yaml.read(study_path(source))
        return StudyConfig.model_validate(with_overrides(raw, overrides))
    except ValidationError as error:
        raise UserError(one_line(sentence(error, StudyConfig))) from None
    except UserError as error:
        raise UserError(one_line(str(error))) from error


def stored_config(folder: Path) -> StudyConfig:
    """Return the study that was begun in `folder`.

    Raises:
        UserError: its `study.yaml` cannot be read.
    """
    return read_config(folder / "study.yaml")
