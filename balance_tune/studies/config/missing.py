"""The section `missing` of a study file: modalities taken from rows at random, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from balance_tune.studies.wording import shown

Rates = float | dict[str, float]


class Missing(BaseModel):
    """How often rows lack a modality.

    In a study file, as `missing: {train: {audio: 0.3}, val: {audio: 0.3}, test: [0.3, 0.5, 0.7, 0.9]}`. A rate is the
    probability that a row lacks a modality. A row never lacks all of its modalities.

    Attributes:
        train: rates of the training and monitor rows: of every modality, or modality -> rate. The rows that lack a
            modality are drawn once a trial, from its seed.
        val: rates of the validation rows, which are the same for all trials.
        test: the rates at which every confirmed model is evaluated on the test rows, once for each modality, and once
            for all modalities together. The rows that lack a modality are the same for all arms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    train: Rates = {}
    val: Rates = {}
    test: tuple[float, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _nothing_means_the_default(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @field_validator("train", "val", mode="before")
    @classmethod
    def _rates(cls, value: Any, info: Any) -> Any:
        where = f"missing.{info.field_name}"
        if isinstance(value, Mapping):
            return {str(m): _rate(f"{where}.{m}", rate) for m, rate in value.items() if rate is not None}
        return _rate(where, value)

    @field_validator("test", mode="before")
    @classmethod
    def _sorted_rates(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) > 100:
            raise ValueError(f"`missing.test` must be a list of at most 100 rates, but got {shown(value)}.")
        return tuple(sorted({_rate("missing.test", rate) for rate in value}))

    def rates(self, part: str, modalities: Iterable[str]) -> dict[str, float]:
        """Return modality -> rate of the rows of `part` ("train" | "val"), of the modalities with a rate above 0."""
        rates: Rates = getattr(self, part)
        by_modality = rates if isinstance(rates, dict) else dict.fromkeys(modalities, rates)
        return {m: by_modality[m] for m in modalities if by_modality.get(m)}

    def named(self) -> list[str]:
        """Return the modalities that the study file names."""
        return [m for rates in (self.train, self.val) if isinstance(rates, dict) for m in rates]

    def words(self, modalities: Iterable[str]) -> str:
        """Return what is missing of a dataset with these modalities, in words; empty where nothing is."""
        names = list(modalities)
        parts = [
            f"{', '.join(f'{m} from {100 * rate:g} %' for m, rate in rates.items())} of the {rows} rows"
            for part, rows in (("train", "training"), ("val", "validation"))
            if (rates := self.rates(part, names))
        ]
        if self.test:
            rates_in_words = ", ".join(f"{100 * rate:g}" for rate in self.test)
            parts.append(f"each modality, and all of them, from {rates_in_words} % of the test rows")
        return "; ".join(parts)


def _rate(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"`{where}` must be a rate from 0 to 1, but got {shown(value)}.")
    return float(value)
