"""An entry of `methods` in a study file: a method as it is, or an arm with a name of its own and fixed settings."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from balance_tune.studies.wording import did_you_mean, shown

BASELINE = "joint"  # every gain is measured against it, so every study has it
TRAINING = "training"  # the section of `search.space` that every method shares, so no arm is called so
_KEYS = ("name", "method", "set")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")


class StudyMethod(BaseModel):
    """One entry of `methods`.

    In a study file it is the name of a method, or a mapping, as
    `{name: tide_nobrake, method: tide, set: {brake: false, training.weight_decay: 0.001}}`.

    Attributes:
        name: what its arms are called. Its characters are letters, digits and `_`, so that it is safe as a file name
            and `-` only ever stands before a variant ("unimodal-audio").
        method: the registered name of the method.
        set: setting -> its value in every trial of the arm. The settings are the method's own, and those of training
            as `training.NAME`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200)
    method: str = Field(min_length=1, max_length=200)
    set: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _name_or_mapping(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data, "method": data}
        if isinstance(data, StudyMethod):
            return data
        if not isinstance(data, dict):
            raise ValueError(f"`methods` must hold names and mappings of {', '.join(_KEYS)}, but got {shown(data)}.")
        fields = {key: value for key, value in data.items() if value is not None}
        for key in fields:
            if key not in _KEYS:
                raise ValueError(f"{shown(key)} is not a setting of an arm in `methods`.{did_you_mean(key, _KEYS)}")
        for key in ("name", "method"):
            if not isinstance(fields.get(key), str):
                raise ValueError(
                    f"an arm in `methods` must have `name` and `method`, both text, but in {shown(data)} `{key}` is "
                    f"{shown(fields.get(key))}."
                )
        return fields

    @model_validator(mode="after")
    def _safe(self) -> StudyMethod:
        if self.named and (not _NAME.fullmatch(self.name) or self.name == TRAINING):
            raise ValueError(
                "the name of an arm must be letters, digits and `_`, start with a letter or digit, have at most 64 of "
                f"them and not be `{TRAINING}`, but got {shown(self.name)}."
            )
        for setting, value in self.set.items():
            if not isinstance(value, bool | int | float | str):
                raise ValueError(
                    f"`set` of arm {self.name} must give each setting one value, but {shown(setting)} is "
                    f"{shown(value)}; what is searched belongs in `search.space.{self.name}`."
                )
        return self

    @property
    def named(self) -> bool:
        """Whether it is more than the name of a method."""
        return self.name != self.method or bool(self.set)

    @property
    def description(self) -> str | None:
        """What a named arm is, as "tide with brake = false"; None where the name is the method's."""
        if not self.named:
            return None
        settings = ", ".join(f"{name} = {json.dumps(value)}" for name, value in self.set.items())
        return f"{self.method} with {settings}" if settings else f"{self.method} under another name"

    def fixed(self, section: str) -> dict[str, Any]:
        """Return what is set of `section` ("training" | "modulation"), by the settings' own names."""
        training = {name for name in self.set if name.startswith(f"{TRAINING}.")}
        return {
            name.removeprefix(f"{TRAINING}."): value
            for name, value in self.set.items()
            if (name in training) == (section == TRAINING)
        }

    def where(self, section: str, setting: str) -> str:
        """Return the address of a fixed setting in the study file, for messages."""
        return f"methods.{self.name}.set.{'training.' if section == TRAINING else ''}{setting}"

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        return {"name": self.name, "method": self.method, "set": dict(self.set)} if self.named else self.name


def check_together(entries: tuple[StudyMethod, ...]) -> None:
    """Raise a `ValueError` where two entries have the same name, or an arm is called like the method of another.

    Names must differ in more than capital letters, because some file systems ignore case.
    """
    for i, entry in enumerate(entries):
        if entry in entries[:i]:
            raise ValueError(f"a method must be named once, but {shown(entry.name)} is named twice.")
        names = {name.lower() for k, other in enumerate(entries) if k != i for name in (other.name, other.method)}
        if entry.named and entry.name.lower() in {*names, entry.method.lower()}:
            raise ValueError(
                f"the name of an arm must be its own, but {shown(entry.name)} is also the name of a method or arm of "
                "the study."
            )
