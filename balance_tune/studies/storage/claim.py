"""What a driver must hold of a study whose root is an object store, and has to bring from there, before it begins."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from balance_tune.datasets.address import bare
from balance_tune.errors import UserError
from balance_tune.studies.storage import object_store
from balance_tune.studies.storage.database import URL, connect, place_of, shown
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.lease import Lease, held
from balance_tune.studies.storage.pruning_table import restore


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the study at its address in an object store, with `folder` as it is there; elsewhere there is nothing to do.

    Raises:
        UserError: trials have no database to go to, or another driver holds the study.
    """
    if object_store.mirror_of(folder) is None:
        yield
        return
    connect(database_for(folder))  # or one line why not
    with held_at_address(folder):
        known = _marker(folder)
        object_store.fetch(folder)
        if _marker(folder) != known:  # what waits to be sent is of another study, which had this name
            for path in folder.glob("mlflow.queue*"):
                path.unlink()
        yield


def held_at_address(folder: Path) -> AbstractContextManager[object]:
    """Return what one driver alone can hold of the study at an address in an object store; nothing to hold elsewhere.

    Before a study begins it has no name of its own in the database, by which `lease_of` holds it.
    """
    address = object_store.address(folder)
    if address is None:
        return nullcontext()
    name = hashlib.sha256(bare(address).encode()).hexdigest()[:32]
    return Lease(database_for(folder), f"{name}@address")


def driven(folder: Path) -> bool:
    """Return whether a driver that lives, on whatever machine, holds a study in an object store.

    Raises:
        UserError: the database that would know does not answer.
    """
    found = place_of(folder)
    return found is not None and held(*found)


def database_for(folder: Path) -> str:
    """Return the URL of the database that a study in an object store keeps trials, pruning log and lock in.

    Raises:
        UserError: BALANCE_TUNE_STORAGE names none that several machines can share.
    """
    url = os.environ.get(URL, "")
    if not url.startswith(("postgresql:", "postgresql+")):
        raise UserError(
            f"a root in an object store ({object_store.where(folder.parent)}) must go with a PostgreSQL database for "
            f"trials and lock, but {URL} {f'is {shown(url)}' if url else 'is not set'}; set it to "
            "postgresql://USER:PASSWORD@HOST/NAME, here and on later runs."
        )
    return url


def fetch_study(folder: Path) -> None:
    """Bring what a store has of a study, but for weights, and its pruning log, for those who only read.

    Raises:
        UserError: the store does not answer, or the database is not named.
    """
    try:
        object_store.fetch(folder)
    except object_store.Away as error:
        raise UserError(f"a study must be readable, but {error}.") from error
    if _marker(folder):
        table = restore(folder)
        if table is not None:
            table.close()


def _marker(folder: Path) -> str:
    path = folder / DATABASE
    return path.read_text() if path.is_file() else ""
