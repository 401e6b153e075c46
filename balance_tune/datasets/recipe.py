"""What the recipe of a user's table may say: its keys, their kinds, and the values of those with few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from balance_tune.datasets.columns import KINDS
from balance_tune.datasets.labels import clean
from balance_tune.errors import UserError
from balance_tune.kinds import misfit
from balance_tune.registry import encoders

KINDS_OF: dict[str, Any] = {
    "name": str | int,
    "task": str,
    "label": str | int | list[str | int],
    "classes": list[str | int | float | bool],
    "separator": str,
    "decimal": str,
    "missing": str,
    "missing_labels": str,
    "duplicates": str,
    "split": str | dict[str, str | int | float],
    "group": str,
    "modalities": Any,
    "training": dict[str, Any],
    "licence": str,
    "source": str,
    "limits": list[str],
}
"""What a recipe may hold."""
CHOICES = {
    "task": ("classes", "multilabel", "regression"),
    "missing": ("drop", "silence", "refuse"),
    "missing_labels": ("refuse", "drop", "none"),
    "duplicates": ("group", "refuse", "drop", "ignore"),
    "decimal": (".", ","),
}
"""Keys of a recipe with few values, the default first."""


def checked_recipe(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices (keys of `CHOICES`) of a recipe, the defaults filled in.

    Args:
        recipe: the recipe as plain data.

    Raises:
        UserError: it has a key or value that cannot be, or lacks one.
    """
    for key in recipe:
        if key not in KINDS_OF:
            raise UserError(f"a recipe may have {', '.join(KINDS_OF)}, but has `{key}`.")
    for key, hint in KINDS_OF.items():
        wrong = misfit(recipe[key], hint, f"`{key}`") if recipe.get(key) is not None else None
        if wrong is not None:
            raise UserError(f"a recipe must have settings of their kind, but {wrong}.")
    for key in ("name", "label", "modalities"):
        if not recipe.get(key):
            raise UserError(f"a recipe must have `{key}`, but has not.")
    if not isinstance(recipe["modalities"], Mapping):
        raise UserError(f"`modalities` must map names to columns; their kinds are {', '.join(KINDS)}.")
    for modality, entry in recipe["modalities"].items():
        encoder = entry.get("encoder") if isinstance(entry, Mapping) else None
        if not isinstance(encoder, str | None):
            raise UserError(f"`encoder` must be a name, but got {encoder!r:.60} (modality {modality}).")
        if encoder and ":" not in encoder:  # a user's own may be importable elsewhere only
            encoders().get(encoder)
    choice = {key: recipe.get(key) or values[0] for key, values in CHOICES.items()}
    for key, values in CHOICES.items():
        if choice[key] not in values:
            raise UserError(f"`{key}` must be {', '.join(values[:-1])} or {values[-1]}, but got `{choice[key]}`.")
    if choice["missing_labels"] == "none" and choice["task"] != "multilabel":
        raise UserError(
            f"`missing_labels: none` (a row without labels) is for multilabel, but `task` is {choice['task']}."
        )
    if recipe.get("separator") and len(clean(recipe["separator"])) != 1:
        raise UserError(f"`separator` must be one character between labels, but got `{recipe['separator']}`.")
    return choice
