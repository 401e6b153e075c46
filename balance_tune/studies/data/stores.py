"""Locates the store of each dataset of a study; stores of embedded datasets are built where they are missing."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.datasets.address import bare, expanded
from balance_tune.datasets.distribution import Distribution
from balance_tune.datasets.place import Place, is_remote
from balance_tune.datasets.store import build_store, read_manifest, store_name
from balance_tune.datasets.stored import Stored, forget, stored
from balance_tune.errors import UserError
from balance_tune.registry import datasets
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.wording import did_you_mean, shown

if TYPE_CHECKING:
    from balance_tune.datasets.base import Dataset
    from balance_tune.datasets.manifest import Manifest

VARIABLE = "BALANCE_TUNE_DATA"
"""A folder or URI below which prepared stores lie under their datasets' names."""
MANIFEST = "manifest.json"
LARGE = ("resnet18",)
MINIATURE = "miniature:"
"""What a study says instead of a place where the miniature of a dataset is meant; it is made below the root."""


def stores_of(
    config: StudyConfig, folder: StudyFolder, message: Callable[[str], None]
) -> tuple[dict[str, str], dict[str, Manifest]]:
    """Return the store of each dataset and its manifest; missing stores of embedded datasets are built."""
    stores, manifests = {}, {}
    for name in config.datasets:
        stores[name], manifests[name] = store_of(name, config.data.stores, folder, message)
    return stores, manifests


def store_of(
    name: str, stores: Mapping[str, str], folder: StudyFolder, tell: Callable[[str], None] = lambda text: None
) -> tuple[str, Manifest]:
    """Return the store of a dataset, as `open_store` takes it, and its manifest.

    An embedded dataset's is built in `folder` (<root>/data) where it is missing. A real one's, and one that a user
    prepared from a table, is looked for where the study says (`data.stores`), then in $BALANCE_TUNE_DATA, then in
    `folder`, under the dataset's name.

    Raises:
        UserError: it has not been prepared (the line says how to), or is of another version of the dataset.
    """
    check_known([name], stores, folder)
    dataset: Dataset = datasets().get(name)()
    if isinstance(dataset, Stored):
        return dataset.where, read_manifest(dataset.where)
    if not isinstance(dataset, Distribution):
        return _embedded(dataset, folder / store_name(dataset), tell)
    where = stores.get(name)
    if where == MINIATURE:
        return _miniature(dataset, folder / "miniature" / name, tell)
    if where is not None:
        if not Place.of(where).holds(MANIFEST):
            raise _no_store(name, where)
        return _check_store(dataset, where)
    for place in _usual(name, folder):
        if place.holds(MANIFEST):
            return _check_store(dataset, place.uri)
    own = folder.display_uri(name)
    raise UserError(
        f"the data of `{name}` must have been prepared, but it is not in {own}; prepare it: "
        f"{dataset.command()} --out {own} (or say where it is: data.stores.{name}=PLACE, or {VARIABLE})."
    )


def _embedded(dataset: Dataset, folder: StudyFolder, tell: Callable[[str], None]) -> tuple[str, Manifest]:
    """Return the store of an embedded dataset, made where it is missing."""
    if folder.store is not None and Place.of(folder.uri).holds(MANIFEST):
        return folder.uri, read_manifest(folder.uri)
    if not folder.path.exists():
        tell(f"preparing {dataset.name}")
    manifest = build_store(dataset, folder.path)
    folder.upload_all(last=MANIFEST)
    return folder.uri, manifest


def check_known(names: Iterable[str], stores: Mapping[str, str], folder: StudyFolder) -> None:
    """Announce datasets as `announce` does, and raise a `UserError` where one is neither installed nor prepared."""
    for name in announce(names, stores, folder):
        installed = datasets().names()
        usual = " or ".join(str(place) for place in _usual(name, folder)) if "/" not in name else folder.display_uri()
        raise UserError(
            f"a dataset must be installed, or prepared from a table, but {shown(name)} is not installed and has no "
            f"store in {usual} (see --root).{did_you_mean(name, installed)}"
        )


def announce(names: Iterable[str], stores: Mapping[str, str], folder: StudyFolder) -> list[str]:
    """Register the datasets that only a store declares (users' tables), so that they are found by name.

    Args:
        names: of datasets; those that are installed are left as they are.
        stores: dataset -> store, as a study says (`data.stores`).
        folder: <root>/data, where the others are looked for after $BALANCE_TUNE_DATA.

    Returns:
        The names that are neither installed nor those of a store.

    Raises:
        UserError: there is no store where a study says, or what lies there is of another dataset.
    """
    unknown = []
    for name in names:
        there = datasets().classes().get(name)
        if there is not None and not issubclass(there, Stored):
            continue
        if name in stores:
            places = [Place.of(stores[name])]
        else:
            places = [] if "/" in name else _usual(name, folder)
        where = next((place for place in places if place.holds(MANIFEST)), None)
        if where is not None:
            stored(name, where.uri)
        elif name in stores:
            raise _no_store(name, stores[name])
        else:
            forget(name)  # one of another root
            unknown.append(name)
    return unknown


def _no_store(name: str, where: str) -> UserError:
    return UserError(f"`data.stores.{name}` must be a store, but there is none in {bare(where)}.")


def identity_of_store(name: str, stores: Mapping[str, str], folder: StudyFolder) -> str | None:
    """Return the identity of a dataset's store without building it; None where it is not prepared."""
    dataset: Dataset = datasets().get(name)()
    if isinstance(dataset, Stored):
        return f"{name}-{store_of(name, stores, folder)[1].data_hash[:12]}"
    if not isinstance(dataset, Distribution):
        return store_name(dataset)
    if stores.get(name) == MINIATURE:
        return f"{name}-miniature"
    try:
        return f"{name}-{store_of(name, stores, folder)[1].data_hash[:12]}"
    except UserError:  # a plan may be made before the data is there
        return None


def _usual(name: str, folder: StudyFolder) -> list[Place]:
    base = os.environ.get(VARIABLE)
    own = Place.of((folder / name).uri)
    return [*([Place.of(f"{base.rstrip('/')}/{name}")] if base else []), own]


def _check_store(dataset: Distribution, where: str) -> tuple[str, Manifest]:
    manifest = read_manifest(where)
    declared = (
        dataset.name,
        dataset.version,
        dataset.task,
        tuple(dataset.classes),
        dict(dataset.modalities),
        dataset.split,
    )
    identity = manifest.identity
    there = (identity.dataset, identity.version, identity.task, identity.classes, identity.modalities, identity.split)
    if declared != there:
        raise UserError(
            f"the store {where} must be of `{dataset.name}` as this version declares it, but is of "
            f"`{manifest.dataset}` (version {manifest.version}) prepared otherwise; prepare it again: "
            f"{dataset.command()}."
        )
    return where if is_remote(where) else str(expanded(where)), manifest


def _miniature(dataset: Distribution, folder: StudyFolder, tell: Callable[[str], None]) -> tuple[str, Manifest]:
    """Return the store of a dataset's miniature, made where it is missing."""
    from balance_tune.studies.data.prepare import prepare

    if folder.store is not None and Place.of(folder.uri).holds(MANIFEST):
        return _check_store(small(dataset), folder.uri)
    if not (folder.path / MANIFEST).is_file():
        tell(f"making the miniature of {dataset.name}")
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as source:
            dataset.miniature(Path(source))
            shutil.rmtree(folder.path, ignore_errors=True)  # the rest of an interrupted run
            prepare(small(dataset), source, folder.path)
    folder.upload_all(last=MANIFEST)
    return _check_store(small(dataset), folder.uri)


def small(dataset: Distribution) -> Distribution:
    """Return the dataset with a small encoder wherever it has a large one for pictures or sound."""
    reduced = copy.copy(dataset)
    reduced.modalities = {  # type: ignore[misc]
        name: replace(modality, encoder="cnn", settings={}) if modality.encoder in LARGE else modality
        for name, modality in dataset.modalities.items()
    }
    return reduced
