"""What a driver must hold of a study whose root is an object store, and has to bring from there, before it begins."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from balance_tune.datasets.address import bare
from balance_tune.errors import UserError
from balance_tune.studies import mirror
from balance_tune.studies.database import URL, connect, place_of, shown
from balance_tune.studies.ledger import Ledger
from balance_tune.studies.records import DATABASE


@contextmanager
def claimed(folder: Path, tracking_uri: str | None = None) -> Iterator[None]:
    """Hold the study at its address in an object store, with `folder` as it is there; elsewhere there is nothing to do.

    Raises:
        UserError: trials or runs have no database to go to, or another driver holds the study.
    """
    if mirror.mirror_of(folder) is None:
        yield
        return
    from balance_tune.studies.tracking.backend import store_of

    connect(database_for(folder))  # or one line why not
    store_of(folder.parent, tracking_uri)
    with held_at_address(folder):
        known = _marker(folder)
        mirror.fetch(folder)
        if _marker(folder) != known:  # what waits to be sent is of another study, which had this name
            for path in folder.glob("mlflow.queue*"):
                path.unlink()
        yield


def held_at_address(folder: Path) -> AbstractContextManager[object]:
    """Return what one driver alone can hold of the study at an address in an object store; nothing to hold elsewhere.

    Before a study begins it has no name of its own in the database, by which `lease_of` holds it.
    """
    from balance_tune.studies.lease import Lease

    address = mirror.address(folder)
    if address is None:
        return nullcontext()
    name = hashlib.sha256(bare(address).encode()).hexdigest()[:32]
    return Lease(database_for(folder), f"{name}@address")


def driven(folder: Path) -> bool:
    """Return whether a driver that lives, on whatever machine, holds a study in an object store.

    Raises:
        UserError: the database that would know does not answer.
    """
    from balance_tune.studies.lease import held

    found = place_of(folder)
    return found is not None and held(*found)


def database_for(folder: Path) -> str:
    """Return the URL of the database that a study in an object store keeps trials, ledger and lock in.

    Raises:
        UserError: BALANCE_TUNE_STORAGE names none that several machines can share.
    """
    url = os.environ.get(URL, "")
    if not url.startswith(("postgresql:", "postgresql+")):
        raise UserError(
            f"a root in an object store ({mirror.where(folder.parent)}) must go with a PostgreSQL database for "
            f"trials and lock, but {URL} {f'is {shown(url)}' if url else 'is not set'}; set it to "
            "postgresql://USER:PASSWORD@HOST/NAME, here and on later runs."
        )
    return url


def ledger_of(folder: Path) -> Ledger:
    """Return the ledger of the study in `folder`, whose database is known by now."""
    if mirror.mirror_of(folder) is None:
        return Ledger(folder / "ledger.jsonl")
    from balance_tune.studies.ledger_table import restore

    table = restore(folder)
    return Ledger(folder / "ledger.jsonl", table)


def fetch_study(folder: Path) -> None:
    """Bring what a store has of a study, but for weights, and its ledger, for those who only read.

    Raises:
        UserError: the store does not answer, or the database is not named.
    """
    from balance_tune.studies.ledger_table import restore

    try:
        mirror.fetch(folder)
    except mirror.Away as error:
        raise UserError(f"a study must be readable, but {error}.") from error
    if _marker(folder):
        table = restore(folder)
        if table is not None:
            table.close()


def _marker(folder: Path) -> str:
    path = folder / DATABASE
    return path.read_text() if path.is_file() else ""
