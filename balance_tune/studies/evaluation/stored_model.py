"""Opens a registered or exported model by its address, in this process (no server)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balance_tune.errors import UserError
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store, client_of_store, reason_of, store_of
from balance_tune.studies.tracking.served import Served
from balance_tune.studies.wording import one_line, shown

RECORDED = ("models:/", "runs:/")  # else an address is a folder's
LOADER = "balance_tune.studies.tracking.served"


@contextmanager
def stored_model(address: str, root: StudyFolder) -> Iterator[Served]:
    """Open the model at `address` for the block: `models:/NAME@champion`, `runs:/ID/PATH`, or a folder of a model.

    Addresses are looked up where the studies of `root` are recorded.

    Raises:
        UserError: there is no model there, or it is none of ours.
    """
    with tempfile.TemporaryDirectory() as here:
        folder = _download(address, root, here) if address.startswith(RECORDED) else Path(address)
        yield _open(folder, address)


def _download(address: str, root: StudyFolder, here: str) -> Path:
    store = store_of(root)
    if store.file is not None and not store.file.is_file():
        raise UserError(f"a model must be recorded to be found, but there is no {store.file}; is the --root right?")
    with client_of_store(store) as client:
        client.search_experiments(max_results=1)  # whether it answers at all
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        with default_store(store):
            return Path(download_artifacts(address, dst_path=here))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"a model must be at {shown(address)} in {store.shown}, but: {reason_of(store, error)}."
        ) from error


@contextmanager
def default_store(store: Store) -> Iterator[None]:
    """Make `store` the process's default store for the block: MLflow looks up `models:/` addresses only there."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")  # MLflow sets this variable too
    mlflow.set_tracking_uri(store.uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # None: none was set


def _unreadable(address: str, error: Exception) -> UserError:
    reason = one_line(f"{type(error).__name__}: {error}")[:160]
    return UserError(f"a model must be whole to be opened, but {shown(address)} is not ({reason}).")


def _open(folder: Path, address: str) -> Served:
    from mlflow.models import Model

    if not (folder / "MLmodel").is_file():
        raise UserError(f"a model must be a folder with an MLmodel, but {shown(address)} has none.")
    try:
        flavor = dict(Model.load(str(folder)).flavors.get("python_function", {}))
        ours = flavor.get("loader_module") == LOADER
        code, data = folder / flavor.get("code", "code"), folder / flavor["data"] if ours else folder
    except Exception as error:  # MLflow raises many kinds of exception for a damaged file
        raise _unreadable(address, error) from error
    if not ours:
        raise UserError(f"a model must have been stored by balance_tune, but {shown(address)} was not.")
    sys.path.append(str(code))  # modules of the user's methods that came with the model
    try:
        return Served(data)
    except UserError:
        raise
    except Exception as error:  # of damaged weights or settings, or of a method's own code
        raise _unreadable(address, error) from error
    finally:
        sys.path.remove(str(code))
