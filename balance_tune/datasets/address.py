"""Addresses of folders, stores and servers: as they are opened, as they may be shown, whether they hold a secret."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from balance_tune.errors import UserError

CONTAINERS = ("abfs", "abfss")  # of Azure: container@account, where others have a user
SECRET = re.compile(r"(?i)(password|passwd|pwd|secret|token|key|credential)[a-z_]*=[^&]")  # in a query


def bare(uri: str) -> str:
    """Return a URI without user, password and query, as it may be shown and recorded; a path stays as it is.

    >>> bare("s3://me:secret@bucket/studies?region=eu-west-1")
    's3://bucket/studies'
    >>> bare("abfs://container:secret@account.dfs.core.windows.net/studies")
    'abfs://container@account.dfs.core.windows.net/studies'
    """
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    path = re.sub("/+", "/", parts.path).rstrip("/")
    container = f"{parts.username}@" if parts.scheme in CONTAINERS and parts.username else ""
    return urlunsplit((parts.scheme, container + parts.netloc.rpartition("@")[2], path, "", ""))


def holds_secret(uri: str, *, user: bool = True) -> bool:
    """Return whether a URI holds a password, a key, or (with `user`) a user name, which may be a token.

    Raises:
        ValueError: it is no URI.

    >>> holds_secret("s3://token@bucket"), holds_secret("abfs://container@account.dfs.core.windows.net/studies")
    (True, False)
    """
    parts = urlsplit(uri)
    user = user and parts.scheme not in CONTAINERS
    return bool(parts.password or (user and parts.username) or SECRET.search(parts.query))


def expanded(path: Path | str) -> Path:
    """Return a path with `~` replaced, absolute.

    Raises:
        UserError: it holds a NUL, or names the home of a user that there is not.
    """
    if "\0" in str(path):
        raise UserError(f"a path must not hold the character NUL, but got {str(path)[:80]!r}.")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(
            f"`~` must be followed by a user of this machine, or by `/`, but got `{path!s:.80}`."
        ) from error
