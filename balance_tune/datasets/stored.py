"""Datasets that only their store knows: what a user prepared from a table, found again by its manifest."""

from __future__ import annotations

from typing import ClassVar

from balance_tune.datasets.base import Dataset, Samples
from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.store import read_manifest
from balance_tune.errors import UserError


class Stored(Dataset):
    """A dataset whose class was made from a manifest; `where` is its store."""

    where: ClassVar[str]
    manifest: ClassVar[Manifest]

    def read(self) -> Samples:
        raise UserError(f"dataset `{self.name}` is its store {self.where}; there is nothing to build it from.")


_KNOWN: dict[str, type[Stored]] = {}


def stored(name: str, where: str) -> type[Stored]:
    """Return the dataset `name` that lies in a store; from then on studies know it by its name.

    Raises:
        UserError: there is no store, or it is of another name.
    """
    manifest = read_manifest(where)
    if manifest.dataset != name:
        raise UserError(f"the store {where} must be of `{name}`, but is of `{manifest.dataset}`.")
    if name in _KNOWN and _KNOWN[name].where == where and _KNOWN[name].manifest == manifest:
        return _KNOWN[name]
    if name in _KNOWN:
        _KNOWN[name].name = ""  # another store under this name: the older class is not found any more
    _KNOWN[name] = type(
        "Stored",
        (Stored,),
        {
            "__module__": __name__,
            "__doc__": f"A user's data, prepared from a table: {manifest.source}.",
            "name": name,
            "version": manifest.version,
            "task": manifest.task,
            "classes": manifest.classes,
            "modalities": manifest.modalities,
            "recipe": manifest.recipe,
            "split": manifest.split,
            "licence": manifest.licence,
            "source": manifest.source,
            "limits": manifest.limits,
            "where": where,
            "manifest": manifest,
        },
    )
    return _KNOWN[name]
