"""Datasets that only their store knows: what a user prepared from a table, found again by its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from balance_tune.datasets.base import Samples
from balance_tune.datasets.columns import HEARD, column_of
from balance_tune.datasets.decoding import Decoding, Unreadable
from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.modality import Modality
from balance_tune.datasets.store import read_manifest
from balance_tune.errors import UserError


class Stored(Decoding):
    """A dataset whose class was made from a manifest; `where` is its store."""

    where: ClassVar[str]
    manifest: ClassVar[Manifest]
    raw: ClassVar[Mapping[str, Any]]

    def read(self) -> Samples:
        raise UserError(f"dataset `{self.name}` is its store {self.where}; there is nothing to build it from.")

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a file's bytes, or words, as the table that it was prepared from has them."""
        if modality not in self.raw:
            raise Unreadable("the file", f"the store of `{self.name}` does not say how it was made; prepare it again")
        return column_of(modality, self.raw[modality], declared=self.modalities[modality]).read(raw)


def decoding(name: str, raw: Mapping[str, Any], modalities: Mapping[str, Modality]) -> Stored:
    """Return a dataset that decodes as the table did that a store was prepared from, where the store is not."""
    dataset: Stored = type("Stored", (Stored,), {"name": "", **_decoded(raw), "modalities": dict(modalities)})()
    dataset.name = name  # type: ignore[misc]  # of this one alone: no study finds it
    return dataset


def _decoded(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"raw": raw, "waveforms": tuple(m for m, entry in raw.items() if entry["kind"] in HEARD)}


_KNOWN: dict[str, type[Stored]] = {}


def forget(name: str) -> None:
    """Have a dataset that only a store declares not be found by its name any more."""
    cls = _KNOWN.pop(name, None)
    if cls is not None:
        cls.name = ""


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
    forget(name)  # another store under this name
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
            **_decoded(manifest.raw),
            "where": where,
            "manifest": manifest,
        },
    )
    return _KNOWN[name]
