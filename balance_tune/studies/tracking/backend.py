"""Which MLflow store a study writes to, and a client on it that stays quiet and calls no other server."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from balance_tune.datasets.address import bare
from balance_tune.errors import UserError
from balance_tune.reachable import check_http, check_url
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.database import connect_arguments
from balance_tune.studies.storage.object_store import join_uri
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.relocation import follow_root
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

ABANDONED = 600.0  # seconds after which an incomplete store counts as abandoned by its process
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

# Read by MLflow at import and at each request. One attempt a request: the writer has its own back-off, which a closing
# study can interrupt. Values set by the user win, telemetry excepted.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class Store:
    """Where runs go: `uri` as MLflow takes it (it may hold a password), `artifacts` a URI (None: up to the server)."""

    uri: str
    artifacts: str | None

    @property
    def shown(self) -> str:
        """The address without user, password and query: for messages, files and tags."""
        parts = urlsplit(self.uri)
        if parts.scheme == "sqlite":
            return self.uri.split("?")[0]
        host = parts.hostname or ""
        try:
            port = parts.port
        except ValueError:  # the message would show part of a password that contains a `/`
            return f"{parts.scheme}://(an address that cannot be read)"
        return urlunsplit((parts.scheme, f"{host}:{port}" if port else host, parts.path, "", ""))

    @property
    def served(self) -> bool:
        """Whether it is a server, and not a database."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def file(self) -> Path | None:
        """The database file of an sqlite store."""
        return Path(self.uri.removeprefix("sqlite:///").split("?")[0]) if self.uri.startswith("sqlite:///") else None


def store_of(root: StudyFolder | Path, configured: str | None = None) -> Store:
    """Return the store named by the study file, else by MLFLOW_TRACKING_URI, else `mlflow.db` under `root`.

    Raises:
        UserError: the address is neither a database nor http(s), which is all MLflow 3 can write runs to; or it is the
            database that Optuna keeps its trials in; or none was given, and the root is an object store.
    """
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI")
    root = StudyFolder.of(root)
    if not uri and root.store is not None:
        raise UserError(
            f"a root in an object store ({root.display_uri()}) must go with an MLflow server or database, but "
            "none was named; set MLFLOW_TRACKING_URI, or mlflow.tracking_uri in the study file."
        )
    path = root.path.expanduser().resolve()
    uri = uri or f"sqlite:///{path / 'mlflow.db'}"
    scheme = uri.split("://")[0].split("+")[0] if "://" in uri else ""
    if scheme in ("http", "https"):
        return Store(uri, None)
    if scheme not in DATABASES:
        raise UserError(
            "mlflow.tracking_uri must begin with http://, https://, "
            + ", ".join(f"{d}://" for d in DATABASES)
            + f", but got `{f'{scheme}://...' if scheme else uri}`; MLflow 3 writes no runs to plain folders."
        )
    store = Store(uri, (path / "mlartifacts").as_uri() if root.store is None else _bucket(root.uri))
    if _same_database(uri, os.environ.get("BALANCE_TUNE_STORAGE", "")):
        raise UserError(
            "MLflow and Optuna must have a database each, since both keep their version in a table of one name, but "
            f"MLFLOW_TRACKING_URI and BALANCE_TUNE_STORAGE both name {store.shown}; make another for one of them."
        )
    return store


def _same_database(uri: str, other: str) -> bool:
    if not other:
        return False
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        a, b = make_url(uri), make_url(other)
    except (SQLAlchemyError, ValueError):
        return False  # reported where it is used
    return (a.get_backend_name(), a.host, a.port or 0, a.database) == (
        b.get_backend_name(),
        b.host,
        b.port or 0,
        b.database,
    )


def _bucket(place: str) -> str:
    """Return where artifacts lie below a root in an object store; MLflow finds a server of one's own by a variable."""
    parts = urlsplit(place)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "s3" and "endpoint_override" in options:
        server = f"{options.get('scheme', 'https')}://{options['endpoint_override']}"
        os.environ.setdefault("MLFLOW_S3_ENDPOINT_URL", server)
    return join_uri(bare(place), "mlartifacts")


def quiet_environment() -> None:
    """Switch off MLflow's telemetry and its own retries; to be called before MLflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def quiet_loggers() -> None:
    """Keep MLflow's progress messages off the terminal; after MLflow is imported, which sets its own level."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def connect(store: Store) -> MlflowClient:
    """Import MLflow (a second or two), create or migrate the store's tables, and return a client on it.

    Any exception means: not now. The caller tries again.
    """
    quiet_environment()
    from mlflow import MlflowClient

    quiet_loggers()
    if store.file:
        store.file.parent.mkdir(parents=True, exist_ok=True)
        _sweep(store.file)
        if not store.file.exists():
            _make(store.file)
        follow_root(store.file, store.artifacts)
        _sync_less_often(store.file.resolve())
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


@cache
def _sync_less_often(file: Path) -> None:
    """Let the connections of this process to a database file wait for the disk less often.

    MLflow commits six times a run and waits for the disk most of that time. With NORMAL sqlite still waits wherever the
    end of a process could harm the file; only a power failure on an old file system could
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def relax(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            files = [path for _, name, path in connection.execute("PRAGMA database_list") if name == "main"]
            if files and files[0] and Path(files[0]).resolve() == file:
                connection.execute("PRAGMA synchronous=NORMAL")


@contextlib.contextmanager
def client_of_store(store: Store) -> Iterator[MlflowClient]:
    """Yield a client for the block; errors of the store in the block become one line.

    Raises:
        UserError: it does not answer, is damaged, or of another version of MLflow; the line holds no password.
    """
    quiet_environment()
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    check = check_http if store.served else check_url
    check(store.uri, f"MLflow must answer, but {store.shown} does not", "start it, or correct MLFLOW_TRACKING_URI")
    try:
        if store.file is not None:
            _open(store.file)
        elif not store.served:
            _ask(store.uri)
        yield connect(store)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, ImportError) as error:
        remedy = "put a copy of it back" if store.file else "start it, or correct MLFLOW_TRACKING_URI"
        raise UserError(
            f"MLflow must answer, but {store.shown} does not ({reason_of(store, error)}); {remedy}."
        ) from error


def _open(file: Path) -> None:
    """Read a database file once, if it is there; where that fails, MLflow tries for two minutes."""
    if file.exists():
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as database:
            database.execute("SELECT count(*) FROM sqlite_master")


def _ask(uri: str) -> None:
    """Connect to a database once; MLflow itself tries for a minute and a half."""
    from sqlalchemy import create_engine

    engine = create_engine(uri, connect_args=connect_arguments(uri))
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def reason_of(store: Store, error: BaseException) -> str:
    """Return the cause of an error in a few words, without user and password."""
    inner: BaseException | None = error
    while inner is not None and getattr(inner, "errno", None) is None:  # the operating system's error, if any
        inner = inner.__cause__ or inner.__context__
    cause = getattr(error, "orig", None) or inner or error
    words = one_line(str(cause).replace(store.uri, store.shown).partition("\n")[0])
    return re.sub(r"//[^@\s]*@", "//", words)[:160]


def _make(file: Path) -> None:
    """Create an sqlite store under a temporary name and rename it when it is complete.

    MLflow creates its tables in many steps, and cannot use a store that was interrupted between two of them.
    """
    from mlflow import MlflowClient

    draft = file.with_name(f".{file.name}.{platform.node()}-{os.getpid()}{durable.TEMPORARY}")
    draft.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
    try:
        os.link(draft, file)
    except FileExistsError:  # made by another study in the meantime
        pass
    except OSError:  # a file system without links
        draft.rename(file)
    draft.unlink(missing_ok=True)


def _sweep(file: Path) -> None:
    """Remove incomplete stores of killed processes."""
    for draft in file.parent.glob(f".{file.name}.*{durable.TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):  # another sweeps too
            if time.time() - draft.stat().st_mtime > ABANDONED:
                draft.unlink()
